"""Sums over many estimates of a gradient, at fixed parameters and a fixed batch.

Of n draws g_1 ... g_n, with d_i = g_i - c for a constant c, only sums are kept, per component:

    s = sum_i d_i,    t = sum_i d_i^2,    (n - 1) variance = t - s^2 / n

c is another draw: c = 0 would lose digits where the mean is large. Draws are summed in a compiled
loop in float64 and form groups, from which standard errors follow.
"""

import math
import statistics
import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rebar import noise
from rebar.errors import RebarError
from rebar.estimators.base import checked_estimate

GROUPS = 10


class Draws(NamedTuple):
    """Sums over groups of draws, and the cost of a draw.

    Attributes:
      n: [G] number of draws per group.
      c: [P] constant.
      s: [G, P] sums of d.
      t: [G, P] sums of d^2.
      evaluations: evaluations of f per draw, of one row each; derivatives are not counted.
      milliseconds: time per draw, including its noise and the summation: the median over groups.
    """

    n: np.ndarray
    c: np.ndarray
    s: np.ndarray
    t: np.ndarray
    evaluations: float
    milliseconds: float

    def moments(self, groups=slice(None)) -> tuple[int, np.ndarray, np.ndarray]:
        """Number of draws, their mean [P] and the variance [P] of one; of some groups or all."""
        n, s, t = (np.sum(sums[groups], axis=0) for sums in (self.n, self.s, self.t))
        with np.errstate(invalid="ignore"):  # nan where an estimate is not finite
            # Rounding can make a zero variance slightly negative.
            return n, self.c + s / n, np.maximum(t - np.square(s) / n, 0) / (n - 1)

    def leave_outs(self) -> list[tuple]:
        """`moments` without each group in turn."""
        return [self.moments(np.arange(len(self.n)) != i) for i in range(len(self.n))]


class Meter:
    """Draws and sums estimates, in a function that is compiled once.

    Args:
      model: see `rebar.types.Model`.
      estimator: set up for the model.
      n_samples: samples per example.
      jit: compile with XLA.
      variables: those of model.trainable_variables with respect to which to differentiate; None:
        all.
    """

    def __init__(self, model, estimator, n_samples: int = 1, jit: bool = False, variables=None):
        wanted = {id(v) for v in variables or model.trainable_variables}
        every = enumerate(model.trainable_variables)
        self._positions = [i for i, v in every if id(v) in wanted]
        self._size = sum(math.prod(model.trainable_variables[i].shape) for i in self._positions)
        self._estimate = estimation(model, estimator, n_samples)
        self._run = tf.function(self._sums, autograph=False, jit_compile=jit or None)
        samples = estimator.own_samples or n_samples
        self._passes = estimator.evaluations(len(model.n_units), samples)

    def __call__(self, x, n_draws: int, seed, position=("variance",), groups=GROUPS) -> Draws:
        """Sum estimates.

        Args:
          x: [B, D] in the model's type.
          n_draws: number of draws.
          seed: non-negative integer or several; more draws only append.
          position: noise stream and further integers, such as a step.
          groups: number of groups of draws.

        Raises:
          RebarError: fewer than two draws per group.
        """
        if n_draws < 2 * groups:
            raise RebarError(
                f"n_draws={n_draws}: too few for a standard error; give {2 * groups} or more"
            )
        keys = np.stack([noise_keys(seed, *position, i) for i in range(n_draws + 1)])
        parts = np.array_split(keys[1:], groups)
        c, _, _ = self._call(x, keys[:1], len(parts[0]), np.zeros(self._size))
        s, t, times = zip(*(self._call(x, part, len(parts[0]), c) for part in parts), strict=True)
        n = np.array([len(part) for part in parts])
        evaluations = self._passes * len(x)
        return Draws(n, c, np.stack(s), np.stack(t), evaluations, statistics.median(times))

    def _call(self, x, keys, size, c):
        """s and t [P] of the draws of some keys, padded to a size, and milliseconds per draw."""
        padded = np.zeros([size, 2, 2], np.int32)
        padded[: len(keys)] = keys
        arguments = tf.constant(padded), tf.constant(len(keys)), tf.constant(c, tf.float64)
        start = time.perf_counter()
        s, t = (sums.numpy() for sums in self._run(x, *arguments))
        return s, t, 1000 * (time.perf_counter() - start) / len(keys)

    def _sums(self, x, keys, count, c):
        """s and t of the first draws of keys [size, 2, 2]."""

        def body(i, s, t):
            gradients = self._estimate(x, keys[i]).gradients
            flat = [tf.reshape(gradients[j], [-1]) for j in self._positions]
            d = tf.concat([tf.cast(g, tf.float64) for g in flat], axis=0) - c
            return i + 1, s + d, t + tf.square(d)

        start = (tf.constant(0), tf.zeros_like(c), tf.zeros_like(c))
        return tf.while_loop(lambda i, *_: i < count, body, start, parallel_iterations=1)[1:]


def noise_keys(seed, *position) -> np.ndarray:
    """Keys [2, 2] of one draw, for the noise of the main chain and of its branches."""
    return np.stack([noise.key(seed, *position, i) for i in range(2)])


def estimation(model, estimator, n_samples: int):
    """Return the function of x and keys [2, 2] that draws noise and estimates."""

    def estimate(x, keys):
        samples = estimator.own_samples or n_samples
        draws = noise.latents(keys[0], samples, x.shape[0], model.n_units, x.dtype)
        if estimator.branches:
            draws = noise.with_branches(draws, keys[1])
        return checked_estimate(estimator, model, x, draws)

    return estimate
