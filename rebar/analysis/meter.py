"""Sums over many estimates of a gradient, at fixed parameters and a fixed batch.

Of n draws g_1 ... g_n, with d_i = g_i - c for a constant c, only sums are kept, per component:

    s = sum_i d_i,    t = sum_i d_i^2,    (n - 1) variance = t - s^2 / n

c is another draw: c = 0 would lose digits where the mean is large. Draws are summed in a compiled
loop in float64 and form groups, from which standard errors follow.
"""

import abc
import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rebar import noise
from rebar.core import families
from rebar.errors import RebarError
from rebar.estimators.base import checked_estimate

GROUPS = 10
FIT_RATE = 0.01
"""Learning rate of Adam for control variates that are trained before a measurement."""


class Draws(NamedTuple):
    """Sums over groups of draws, and the cost of a draw.

    Attributes:
      n: [G] number of draws per group.
      c: [P] constant.
      s: [G, P] sums of d.
      t: [G, P] sums of d^2.
      evaluations: evaluations of f per draw, of one row each, or per draw and example for an
        objective; derivatives are not counted.
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

    def part(self, components: np.ndarray) -> "Draws":
        """Return the sums of some components, a mask or positions."""
        c, s, t = self.c[components], self.s[:, components], self.t[:, components]
        return self._replace(c=c, s=s, t=t)

    def leave_outs(self) -> list[tuple]:
        """`moments` without each group in turn."""
        return [self.moments(np.arange(len(self.n)) != i) for i in range(len(self.n))]


class Sums(abc.ABC):
    """Draws gradients and sums them, in a function that is compiled once.

    Subclasses implement `draw` and `evaluations`.

    Args:
      size: P.
      jit: compile with XLA.
    """

    def __init__(self, size: int, jit: bool = False):
        self._size = size
        self._run = tf.function(self._sums, autograph=False, jit_compile=jit or None)

    @abc.abstractmethod
    def draw(self, x, key: tf.Tensor) -> list:
        """Return one draw as tensors of P components in all."""

    @abc.abstractmethod
    def evaluations(self, x) -> float:
        """Return the evaluations of f per draw."""

    def sums(self, x, keys: np.ndarray, groups: int = GROUPS) -> Draws:
        """Sum draws.

        Args:
          x: input of `draw`, e.g. [B, D] in the model's type.
          keys: [1 + n_draws, ...] integers that determine the constant c and the draws.
          groups: number of groups of draws.

        Raises:
          RebarError: fewer than two draws per group.
        """
        n_draws = len(keys) - 1
        if n_draws < 2 * groups:
            raise RebarError(
                f"n_draws={n_draws}: too few for a standard error; give {2 * groups} or more"
            )
        parts = np.array_split(keys[1:], groups)
        c, _, _ = self._call(x, keys[:1], len(parts[0]), np.zeros(self._size))
        s, t, times = zip(*(self._call(x, part, len(parts[0]), c) for part in parts), strict=True)
        n = np.array([len(part) for part in parts])
        milliseconds = statistics.median(times)
        return Draws(n, c, np.stack(s), np.stack(t), self.evaluations(x), milliseconds)

    def one(self, x, key: np.ndarray) -> np.ndarray:
        """Return the draw of a key, [P]."""
        return self._call(x, np.array([key]), 1, np.zeros(self._size))[0]

    def _call(self, x, keys, size, c):
        """s and t [P] of the draws of some keys, padded to a size, and milliseconds per draw."""
        padded = np.zeros([size, *keys.shape[1:]], np.int32)
        padded[: len(keys)] = keys
        arguments = tf.constant(padded), tf.constant(len(keys)), tf.constant(c, tf.float64)
        start = time.perf_counter()
        s, t = (sums.numpy() for sums in self._run(x, *arguments))
        return s, t, 1000 * (time.perf_counter() - start) / len(keys)

    def _sums(self, x, keys, count, c):
        """s and t of the first draws of keys [size, ...]."""

        def body(i, s, t):
            flat = [tf.reshape(g, [-1]) for g in self.draw(x, keys[i])]
            d = tf.concat([tf.cast(g, tf.float64) for g in flat], axis=0) - c
            return i + 1, s + d, t + tf.square(d)

        start = (tf.constant(0), tf.zeros_like(c), tf.zeros_like(c))
        return tf.while_loop(lambda i, *_: i < count, body, start, parallel_iterations=1)[1:]


class Meter(Sums):
    """Sums of estimates for a model.

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
        super().__init__(
            sum(math.prod(model.trainable_variables[i].shape) for i in self._positions), jit
        )
        self._estimate = estimation(model, estimator, n_samples)
        samples = estimator.own_samples or n_samples
        self._passes = estimator.evaluations(families.shapes(model), samples)

    def __call__(self, x, n_draws: int, seed, position=("variance",), groups=GROUPS) -> Draws:
        """Sum estimates.

        Args:
          x: [B, D] in the model's type.
          n_draws, groups: see `sums`.
          seed: non-negative integer or several; more draws only append.
          position: noise stream and further integers, such as a step.
        """
        keys = np.stack([noise_keys(seed, *position, i) for i in range(n_draws + 1)])
        return self.sums(x, keys, groups)

    def draw(self, x, key):
        gradients = self._estimate(x, key).gradients
        return [gradients[i] for i in self._positions]

    def evaluations(self, x):
        return self._passes * len(x)


def noise_keys(seed, *position) -> np.ndarray:
    """Keys [2, 2] of one draw, for the noise of the main chain and of its branches."""
    return np.stack([noise.key(seed, *position, i) for i in range(2)])


def train_controls(control_gradients: Callable, variables, keys) -> None:
    """Train control variates with Adam at a frozen model, one step per key.

    Args:
      control_gradients: key -> gradients aligned with `variables`.
      variables: learned parts of an estimator.
      keys: [steps, ...] integers that determine the noise.
    """
    optimizer = keras.optimizers.Adam(FIT_RATE)
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step(key):
        optimizer.apply(control_gradients(key), variables)

    for key in keys:
        step(tf.constant(key))


def estimation(model, estimator, n_samples: int):
    """Return the function of x and keys [2, 2] that draws noise and estimates."""

    def estimate(x, keys):
        samples = estimator.own_samples or n_samples
        draws = noise.latents(keys[0], samples, x.shape[0], model.n_units, x.dtype)
        if estimator.branches:
            draws = noise.with_branches(draws, keys[1])
        return checked_estimate(estimator, model, x, draws)

    return estimate
