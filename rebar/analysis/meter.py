"""Sums over many estimates of a gradient, at fixed parameters and a fixed batch.

Of n draws g_1 ... g_n, with d_i = g_i - c for a constant c, only sums are kept:

    s = sum_i d_i  [P],    t = sum_i |d_i|^2,    (n - 1) * total variance = t - |s|^2 / n

c is another draw, or the gradient that the estimates are compared with: c = 0 would lose digits
where the mean is large. Draws are summed in a compiled loop in float64 and form groups, from which
standard errors follow.
"""

import math
import statistics
import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rebar import noise
from rebar.analysis.at_logits import AtLogits
from rebar.errors import RebarError
from rebar.estimators.base import checked_estimate

GROUPS = 10


class Target(NamedTuple):
    """The gradient to measure.

    Attributes:
      model: see `rebar.types.Model`.
      indices: positions in model.trainable_variables of the variables.
      scale: factor of the estimators' gradients, which are those of -mean_B f.
      images: B if the only variable has one row per image, else 0.
    """

    model: object
    indices: list
    scale: float = 1.0
    images: int = 0

    @property
    def segments(self) -> list[int]:
        """Numbers of components per variable, or per image, whose squares are summed."""
        variables = self.model.trainable_variables
        sizes = [math.prod(variables[i].shape) for i in self.indices]
        return [sizes[0] // self.images] * self.images if self.images else sizes


def by_logits(model, x) -> Target:
    """The gradient of the reconstruction term w.r.t. the logits of each image, see `at_logits`."""
    return Target(AtLogits(model, x), [0], -float(len(x)), len(x))


def by_weights(model) -> Target:
    """The gradient of -mean_B f w.r.t. the variables of q."""
    inference = set(map(id, model.inference_variables))
    return Target(model, [i for i, v in enumerate(model.trainable_variables) if id(v) in inference])


class Sums(NamedTuple):
    """Sums over draws of d = g - c, in float64.

    Attributes:
      n: number of draws.
      s: [P] sum of d.
      t: [R] sum of squares per segment of components.
      starts: [R] first component of each segment.
    """

    n: int
    s: np.ndarray
    t: np.ndarray
    starts: np.ndarray

    def __add__(self, other):
        return Sums(self.n + other.n, self.s + other.s, self.t + other.t, self.starts)

    def __sub__(self, other):
        return Sums(self.n - other.n, self.s - other.s, self.t - other.t, self.starts)

    @property
    def mean(self) -> np.ndarray:
        """[P] mean of d."""
        return self.s / self.n

    @property
    def variances(self) -> np.ndarray:
        """[R] variance of one draw, summed over each segment."""
        squares = np.add.reduceat(np.square(self.s), self.starts)
        # Rounding can make a zero variance slightly negative.
        return np.maximum(self.t - squares / self.n, 0) / (self.n - 1)


def total(groups) -> Sums:
    """Sum of groups of draws."""
    return sum(groups[1:], groups[0])


class Meter:
    """Draws and sums estimates, in a function that is compiled once.

    Args:
      target: the gradient.
      estimator: set up for target.model.
      n_samples: samples per example.
      jit: compile with XLA.

    Raises:
      RebarError: n_samples < 1.
    """

    def __init__(self, target: Target, estimator, n_samples: int = 1, jit: bool = False):
        if n_samples < 1:
            raise RebarError(f"n_samples={n_samples}: must be at least 1")
        self._segments = target.segments
        self._starts = np.cumsum([0, *self._segments[:-1]])
        self._run = tf.function(
            self._loop(target, drawing(target.model, estimator, n_samples)),
            autograph=False,
            jit_compile=jit or None,
        )

    def __call__(self, x, n_draws: int, seed, position=("variance",), groups=GROUPS, c=None):
        """Sum the deviations of estimates from c.

        Args:
          x: [B, D] in the model's type.
          n_draws: number of draws.
          seed: non-negative integer or several; more draws only append.
          position: noise stream and further integers, such as a step.
          groups: number of groups of draws.
          c: [P] in float64; None: an additional draw.

        Returns:
          `Sums` of each group, and milliseconds per estimate, including noise and summation: the
          median over the groups, after one draw to warm up.

        Raises:
          RebarError: no images, or fewer than two draws per group.
        """
        if n_draws < 2 * groups:
            raise RebarError(
                f"n_draws={n_draws}: too few for a standard error; give {2 * groups} or more"
            )
        if not len(x):
            raise RebarError("no images: expected a batch; give x [B, D] with B >= 1")
        extra = 1 if c is None else 0
        keys = np.stack([noise_keys(seed, *position, i) for i in range(n_draws + extra)])
        parts = np.array_split(keys[extra:], groups)
        start = np.zeros([sum(self._segments)]) if c is None else c
        first, _ = self._call(x, keys[:1], len(parts[0]), start)
        c = tf.constant(first.s if c is None else c, tf.float64)
        sums, times = zip(*(self._call(x, part, len(parts[0]), c) for part in parts), strict=True)
        return sums, statistics.median(times)

    def _call(self, x, keys, size, c):
        padded = np.zeros([size, 2, 2], np.int32)
        padded[: len(keys)] = keys
        start = time.perf_counter()
        s, t = self._run(x, tf.constant(padded), tf.constant(len(keys)), c)
        s, t = s.numpy(), t.numpy()
        milliseconds = 1000 * (time.perf_counter() - start) / len(keys)
        return Sums(len(keys), s, t, self._starts), milliseconds

    def _loop(self, target, draw):
        """Return the function of x, keys [size, 2, 2], number of draws and c that sums s and t."""
        segments = self._segments

        def run(x, keys, count, c):
            def body(i, s, t):
                gradients = draw(x, keys[i]).gradients
                values = [
                    tf.cast(tf.reshape(gradients[j], [-1]), tf.float64) for j in target.indices
                ]
                d = target.scale * tf.concat(values, axis=0) - c
                squares = [tf.reduce_sum(tf.square(part)) for part in tf.split(d, segments)]
                return i + 1, s + d, t + tf.stack(squares)

            start = (tf.constant(0), tf.zeros_like(c), tf.zeros([len(segments)], tf.float64))
            return tf.while_loop(lambda i, *_: i < count, body, start, parallel_iterations=1)[1:]

        return run


def noise_keys(seed, *position) -> np.ndarray:
    """Keys [2, 2] of one draw, for the noise of the main chain and of its branches."""
    return np.stack([noise.key(seed, *position, i) for i in range(2)])


def drawing(model, estimator, n_samples: int):
    """Return the function of x and keys [2, 2] that draws noise and estimates."""

    def estimate(x, keys):
        draws = noise.latents(keys[0], n_samples, x.shape[0], model.n_units, x.dtype)
        if estimator.branches:
            draws = noise.with_branches(draws, keys[1])
        return checked_estimate(estimator, model, x, draws)

    return estimate
