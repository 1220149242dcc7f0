"""Bias and variance of an estimator at fixed parameters and a fixed batch, over many draws.

With g_1 ... g_N estimates of a gradient e, m their mean, and |.| over all components,

    variance          V = sum over components of Var[g],  estimated by sum |g_i - m|^2 / (N - 1)
    bias              |E g - e|,  its square estimated without bias by |m - e|^2 - V / N
    cosine            <m, e> / (|m| |e|), as published: of the mean of N draws
    expected_cosine   the same of E g, with |m|^2 - V / N for the square of its norm
    mse               V + bias^2
    snr               |E g| / sqrt(V)
    std_to_mean       mean over images of |std| / |m|, as published (for logits only)

`relative_` means divided by |e| (bias) or |e|^2 (variance, mse). Where e is itself estimated
(`references.leave_one_out`), its mean square error is subtracted, too. Standard errors come from a
jackknife over the groups of draws of the estimator and of the reference.
"""

import math
from typing import NamedTuple

import numpy as np

from rebar.analysis.meter import Sums, total

SEEN = 2.0
"""Number of standard errors above which the square of a bias is significant."""


class Reference(NamedTuple):
    """The gradient that estimates are compared with.

    Attributes:
      gradient: [P] in float64.
      about: JSON values that describe it.
      error: estimate of |gradient - exact|^2; 0 for the exact one.
      groups: `Sums` of its draws, with c = 0; none for the exact one.
    """

    gradient: np.ndarray
    about: dict
    error: float = 0.0
    groups: tuple = ()

    @property
    def square(self) -> float:
        """|exact|^2, estimated without bias; negative if the reference is mostly noise."""
        return float(self.gradient @ self.gradient) - self.error

    def record(self) -> dict:
        """JSON values: "norm" is |e|, "relative_error" the standard error divided by it."""
        norm = math.sqrt(max(self.square, 0))
        relative = _ratio(math.sqrt(self.error), norm)
        return {**self.about, "norm": norm, "error": self.error, "relative_error": relative}


def measure(groups, reference: Reference, by_image: bool = False) -> dict:
    """The numbers of the module's docstring, and `standard_error` of each.

    Args:
      groups: `Sums` with c = reference.gradient.
      reference: the gradient to compare with.
      by_image: whether segments are images of one size; adds "std_to_mean".

    Returns:
      Name -> number, nan where undefined. `bias_seen`: whether the square of the bias exceeds SEEN
      standard errors; `bias_limit` and `relative_bias_limit`: the largest bias within them.
    """
    complete, c = total(groups), reference.gradient
    values = _numbers(complete, reference, c, by_image)
    leave_outs = [[_numbers(complete - g, reference, c, by_image) for g in groups]]
    if reference.groups:
        parts = _without_each(reference)
        leave_outs.append([_numbers(complete, part, c, by_image) for part in parts])
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


def _numbers(sums: Sums, reference: Reference, c, by_image) -> dict:
    """The numbers, from sums with a c near reference.gradient."""
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
        # Not clipped at 1, which would hide the standard error of a cosine near it.
        "expected_cosine": _ratio(product, _root(expected_square) * _root(exact_square)),
        "variance": variance,
        "relative_variance": _ratio(variance, exact_square),
        "mse": mse,
        "relative_mse": _ratio(mse, exact_square),
        "snr": _ratio(_root(max(expected_square, 0)), math.sqrt(variance)),
    }
    if by_image:
        norms = np.linalg.norm(mean.reshape(len(variances), -1), axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            result["std_to_mean"] = float(np.mean(np.sqrt(variances) / norms))
    return result


def _without_each(reference: Reference):
    """The reference without each of its groups of draws in turn."""
    complete = total(reference.groups)
    for group in reference.groups:
        others = complete - group
        yield Reference(others.mean, {}, float(np.sum(others.variances)) / others.n)


def _jackknife(leave_outs) -> float:
    """Standard error of a number, from its values without each group of each independent source."""
    with np.errstate(invalid="ignore"):  # nan where a number is not finite
        parts = [(len(v) - 1) / len(v) * np.sum(np.square(v - np.mean(v))) for v in leave_outs]
    return math.sqrt(sum(parts))


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else math.nan


def _root(square: float) -> float:
    return math.sqrt(square) if square >= 0 else math.nan
