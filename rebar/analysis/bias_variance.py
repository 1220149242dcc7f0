"""Bias and variance of an estimator at fixed parameters and a fixed batch, over many draws.

With g_1 ... g_N estimates of a gradient e, m their mean, and |.| over all components,

    variance          V = sum over components of Var[g],  estimated by sum |g_i - m|^2 / (N - 1)
    bias              |E g - e|,  its square estimated by |m - e|^2 - V / N, which has no bias
    cosine            <m, e> / (|m| |e|), as published: of the mean of N draws
    expected_cosine   the same of E g, by |m|^2 - V / N for the square of its norm
    mse               V + bias^2
    snr               |E g| / sqrt(V)
    std_to_mean       mean over images of |std| / |m|, as published (by the logits only)

`relative_` stands for a division by |e| (bias) or |e|^2 (variance, mse). |m - e|^2 holds the Monte
Carlo error V / N of the mean, so it is not the bias.

Where e is itself estimated (`reference.leave_one_out`), with |error|^2 = R in the mean, R is taken
off, too. Standard errors are those of a jackknife that leaves out one of GROUPS groups of draws at
a time, of the estimator and of the reference.

Draws are summed in a compiled loop in float64, as deviations from e: of N draws, GROUPS vectors are
kept.
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

GROUPS = 10
LEAST_DRAWS = 2 * GROUPS
SEEN = 2.0
"""Standard errors that the square of a bias must exceed to count as seen."""


class Target(NamedTuple):
    """Which gradient is looked at.

    Attributes:
      model: see `rebar.types.Model`.
      x: [B, D] the batch.
      indices: positions in model.trainable_variables of what the gradient is by.
      scale: factor of the estimators' gradients, which are those of -mean_B f.
      by_image: whether the first axis of the variable is that of the images.
    """

    model: object
    x: tf.Tensor
    indices: list
    scale: float = 1.0
    by_image: bool = False

    @property
    def variables(self) -> list:
        """What the gradient is by."""
        return [self.model.trainable_variables[i] for i in self.indices]


def by_logits(model, x) -> Target:
    """The gradient of the reconstruction term by each image's logits, see `at_logits`."""
    return Target(AtLogits(model, x), x, [0], -float(x.shape[0]), True)


def by_weights(model, x) -> Target:
    """The gradient of -mean_B f by the variables of q."""
    inference = set(map(id, model.inference_variables))
    indices = [i for i, v in enumerate(model.trainable_variables) if id(v) in inference]
    return Target(model, x, indices)


class Sums(NamedTuple):
    """Of draws d = g - c: how many, [P] their sum, [R] the sums of their squares.

    R is B, or 1 where the gradient is not one of each image. In float64.
    """

    n: int
    s: np.ndarray
    t: np.ndarray

    def __add__(self, other):
        return Sums(self.n + other.n, self.s + other.s, self.t + other.t)

    def __sub__(self, other):
        return Sums(self.n - other.n, self.s - other.s, self.t - other.t)

    @property
    def mean(self) -> np.ndarray:
        """[P] of d."""
        return self.s / self.n

    @property
    def variances(self) -> np.ndarray:
        """[R] sums over components of the variance of one draw."""
        rows = np.sum(np.square(self.s.reshape(len(self.t), -1)), axis=1)
        # Rounding may leave less than nothing of a variance that is zero.
        return np.maximum(self.t - rows / self.n, 0) / (self.n - 1)


class Reference(NamedTuple):
    """The gradient that estimates are compared with.

    Attributes:
      gradient: [P] in float64.
      about: what it is: JSON values.
      error: the mean of |gradient - exact|^2; 0 where it is exact.
      groups: `Sums` of the draws behind it, with c = 0; none where it is exact.
    """

    gradient: np.ndarray
    about: dict
    error: float = 0.0
    groups: tuple = ()

    @property
    def square(self) -> float:
        """|exact|^2, estimated without bias; may be below 0 if the reference is mostly noise."""
        return float(self.gradient @ self.gradient) - self.error


class Meter:
    """Draws estimates and sums them up, to be called again without being compiled again.

    Args:
      target: which gradient.
      estimator: set up for target.model.
      n_samples: S, samples an example.
      jit: compile with XLA.

    Raises:
      RebarError: n_samples < 1, or no images.
    """

    def __init__(self, target: Target, estimator, n_samples: int = 1, jit: bool = False):
        if n_samples < 1:
            raise RebarError(f"n_samples={n_samples} must be at least 1")
        if not len(target.x):
            raise RebarError("bias and variance are measured at a batch, given: no images")
        self._rows = len(target.x) if target.by_image else 1
        self._run = tf.function(
            _summing(target, estimator, n_samples, self._rows),
            autograph=False,
            jit_compile=jit or None,
        )

    def __call__(self, c: np.ndarray, n_draws: int, seed, purpose: int = 0) -> tuple:
        """Sum up the deviations of estimates from c.

        Args:
          c: [P] in float64.
          n_draws: N, at least LEAST_DRAWS.
          seed: non-negative integer or several; more draws only append.
          purpose: draws for another purpose are other ones.

        Returns:
          GROUPS `Sums`, and the time of one estimate in milliseconds, its noise and the summing
          included: the median over the groups, after one draw to warm up.

        Raises:
          RebarError: n_draws below LEAST_DRAWS.
        """
        if n_draws < LEAST_DRAWS:
            raise RebarError(
                f"draws={n_draws} are too few for standard errors; give {LEAST_DRAWS} or more"
            )
        groups = np.array_split(
            np.stack([_keys(seed, purpose, draw) for draw in range(n_draws)]), GROUPS
        )
        c = tf.constant(c, tf.float64)
        self._call(groups[0][:1], len(groups[0]), c)
        sums, times = [], []
        for keys in groups:
            start = time.perf_counter()
            sums.append(self._call(keys, len(groups[0]), c))
            times.append(1000 * (time.perf_counter() - start) / len(keys))
        return tuple(sums), statistics.median(times)

    def _call(self, keys, size, c):
        padded = np.zeros([size, 2, 2], np.int32)
        padded[: len(keys)] = keys
        s, t = self._run(tf.constant(padded), tf.constant(len(keys)), c)
        return Sums(len(keys), s.numpy(), t.numpy())


def flat(gradients) -> np.ndarray:
    """All components of a list of tensors, [P] in float64."""
    return np.concatenate([np.reshape(g, -1) for g in gradients]).astype(np.float64)


def measure(groups, reference: Reference) -> dict:
    """The numbers of the module's docstring, and `standard_error` of each.

    Args:
      groups: `Sums` with c = reference.gradient.
      reference: what to compare with.

    Returns:
      Name -> number; nan where it does not exist. `bias_seen` tells whether the square of the bias
      is above SEEN of its standard errors, and `bias_limit` (`relative_bias_limit`) is the largest
      bias within these.
    """
    total = sum(groups[1:], groups[0])
    values = _numbers(total, reference, reference.gradient)
    leave_outs = [[_numbers(total - g, reference, reference.gradient) for g in groups]]
    if reference.groups:
        leave_outs.append(
            [_numbers(total, part, reference.gradient) for part in _without_each(reference)]
        )
    errors = {name: _jackknife([[v[name] for v in vs] for vs in leave_outs]) for name in values}
    square, error = values["bias_squared"], errors["bias_squared"]
    limit = math.sqrt(max(square, 0) + SEEN * error)
    return {
        **values,
        "bias_seen": bool(square > SEEN * error),
        "bias_limit": limit,
        "relative_bias_limit": _ratio(limit, _root(reference.square)),
        "standard_error": errors,
    }


def _numbers(sums: Sums, reference: Reference, c) -> dict:
    """The numbers from sums with the given c, which is near reference.gradient."""
    deviation = sums.mean + (c - reference.gradient)
    mean = reference.gradient + deviation
    variances = sums.variances
    variance = float(np.sum(variances))
    square = float(deviation @ deviation) - variance / sums.n - reference.error
    bias = math.sqrt(max(square, 0))
    mse = variance + bias**2
    exact_square = reference.square
    mean_square = float(mean @ mean)
    expected_square = mean_square - variance / sums.n
    product = float(mean @ reference.gradient)
    result = {
        "bias": bias,
        "bias_squared": square,
        "relative_bias": _ratio(bias, _root(exact_square)),
        "cosine": _ratio(product, np.linalg.norm(mean) * np.linalg.norm(reference.gradient)),
        # Not cut off at 1, which would make the error of a cosine near it look like none.
        "expected_cosine": _ratio(product, _root(expected_square) * _root(exact_square)),
        "variance": variance,
        "relative_variance": _ratio(variance, exact_square),
        "mse": mse,
        "relative_mse": _ratio(mse, exact_square),
        "snr": _ratio(_root(max(expected_square, 0)), math.sqrt(variance)),
    }
    if len(variances) > 1:
        norms = np.linalg.norm(mean.reshape(len(variances), -1), axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            result["std_to_mean"] = float(np.mean(np.sqrt(variances) / norms))
    return result


def _without_each(reference: Reference):
    """The reference without one of its groups of draws, for each."""
    total = sum(reference.groups[1:], reference.groups[0])
    for group in reference.groups:
        rest = total - group
        yield Reference(rest.mean, {}, float(np.sum(rest.variances)) / rest.n)


def _jackknife(leave_outs) -> float:
    """Standard error of a number from its values without each group, for independent sources."""
    parts = [(len(v) - 1) / len(v) * np.sum(np.square(v - np.mean(v))) for v in leave_outs]
    return math.sqrt(sum(parts))


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else math.nan


def _root(square: float) -> float:
    return math.sqrt(square) if square >= 0 else math.nan


def _keys(seed, purpose, draw):
    """Keys [2, 2] of one draw: of the main chain's noise, and of its branches."""
    return np.stack([noise.key(seed, "analysis", purpose, draw, i) for i in range(2)])


def _summing(target, estimator, n_samples, rows):
    """The function of keys [size, 2, 2], how many of them count, and c that returns s and t."""
    model, x = target.model, target.x

    def draw(keys):
        draws = noise.latents(keys[0], n_samples, x.shape[0], model.n_units, x.dtype)
        if estimator.branches:
            draws = noise.with_branches(draws, keys[1])
        found = estimator.estimate(model, x, draws).gradients
        values = [tf.reshape(tf.cast(found[i], tf.float64), [-1]) for i in target.indices]
        return target.scale * tf.concat(values, axis=0)

    def run(keys, count, c):
        def body(i, s, t):
            d = draw(keys[i]) - c
            return i + 1, s + d, t + tf.reduce_sum(tf.square(tf.reshape(d, [rows, -1])), axis=1)

        start = (tf.constant(0), tf.zeros_like(c), tf.zeros([rows], tf.float64))
        _, s, t = tf.while_loop(lambda i, *_: i < count, body, start, parallel_iterations=1)
        return s, t

    return run
