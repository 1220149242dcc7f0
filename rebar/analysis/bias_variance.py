"""Bias and variance of an estimator at fixed parameters and a fixed batch, over many draws.

With g_1 ... g_N estimates of a gradient e, m their mean, and |.| over all components,

    variance          V = sum over components of Var[g],  estimated by sum |g_i - m|^2 / (N - 1)
    bias              |E g - e|,  its square estimated without bias by |m - e|^2 - V / N
    cosine            <m, e> / (|m| |e|), as published: of the mean of N draws
    expected_cosine   the same of E g, with |m|^2 - V / N for the square of its norm
    mse               V + bias^2
    snr               |E g| / sqrt(V)
    std_to_mean       mean over images of |std| / |m|, as published (for logits only)

`relative_` means divided by |e| (bias) or |e|^2 (variance, mse). Where e is itself estimated, as
the mean of draws, its mean square error is subtracted, too. Standard errors come from a jackknife
over the groups of draws of the estimator and of the reference.
"""

from typing import NamedTuple

import numpy as np

from rebar.analysis.meter import Draws

SEEN = 2.0
"""Number of standard errors above which the square of a bias is significant."""

NO_BIAS = f"<: no bias detected; the number is the largest within {SEEN:g} standard errors"
"""Note of a table."""


class Reference(NamedTuple):
    """The gradient that estimates are compared with.

    Attributes:
      gradient: [P] in float64.
      about: JSON values that describe it.
      error: estimate of |gradient - exact|^2; 0 for the exact one.
      draws: those of which it is the mean, if any.
    """

    gradient: np.ndarray
    about: dict
    error: float = 0.0
    draws: Draws | None = None

    def part(self, components: np.ndarray) -> "Reference":
        """Return the reference of some components, a mask or positions."""
        draws = self.draws and self.draws.part(components)
        if draws is None:
            return self._replace(gradient=self.gradient[components])
        return estimated(draws.moments(), self.about, draws)

    @property
    def norm(self) -> np.float64:
        """|exact|, its square estimated without bias; nan if the reference is mostly noise."""
        return np.sqrt(self.gradient @ self.gradient - self.error)

    def record(self) -> dict:
        """JSON values: "norm" is |e|, "relative_error" the standard error divided by it."""
        with np.errstate(all="ignore"):
            norm, error = float(self.norm), float(np.sqrt(self.error) / self.norm)
        return {**self.about, "norm": norm, "error": self.error, "relative_error": error}


def estimated(moments, about: dict, draws: Draws | None = None) -> Reference:
    """The mean of draws as a reference, from their `moments`."""
    n, mean, variances = moments
    return Reference(mean, about, float(np.sum(variances) / n), draws)


def measure(draws: Draws, reference: Reference | None, images: int = 0) -> dict:
    """The numbers of the module's docstring, and `standard_error` of each.

    Args:
      draws: of the estimator.
      reference: the gradient to compare with; None leaves out what needs one.
      images: B if components are those of B images, image-major; adds "std_to_mean".

    Returns:
      Name -> number, non-finite where undefined. `bias_seen`: whether the square of the bias
      exceeds SEEN standard errors; `bias_limit` and `relative_bias_limit`: the largest bias within
      them.
    """
    with np.errstate(all="ignore"):
        values = _numbers(draws.moments(), reference, images)
        sources = [[_numbers(part, reference, images) for part in draws.leave_outs()]]
        if reference is not None and reference.draws is not None:
            parts = [estimated(part, {}) for part in reference.draws.leave_outs()]
            sources.append([_numbers(draws.moments(), part, images) for part in parts])
        # Jackknife: values without each group of each independent source.
        tables = [np.array([list(numbers.values()) for numbers in source]) for source in sources]
        errors = np.sqrt(sum((len(t) - 1) * np.var(t, axis=0) for t in tables))
        standard_error = dict(zip(values, errors.tolist(), strict=True))
        if reference is not None:
            square, error = values["bias_squared"], standard_error["bias_squared"]
            limit = float(np.sqrt(max(square, 0) + SEEN * error))
            values |= {
                "bias_seen": square > SEEN * error,
                "bias_limit": limit,
                "relative_bias_limit": float(limit / reference.norm),
            }
        return {**values, "standard_error": standard_error}


def _numbers(moments, reference: Reference | None, images: int) -> dict:
    """The numbers, from moments of the draws."""
    n, mean, variances = moments
    variance = np.sum(variances)
    expected = mean @ mean - variance / n
    result = {"variance": variance, "snr": np.sqrt(np.maximum(expected, 0) / variance)}
    if reference is not None:
        e, norm = reference.gradient, reference.norm
        square = np.sum(np.square(mean - e)) - variance / n - reference.error
        bias = np.sqrt(np.maximum(square, 0))
        mse = variance + bias**2
        result = {
            "bias": bias,
            "bias_squared": square,
            "relative_bias": bias / norm,
            "cosine": mean @ e / (np.linalg.norm(mean) * np.linalg.norm(e)),
            # Not clipped at 1, which would hide the standard error of a cosine near it.
            "expected_cosine": mean @ e / (np.sqrt(expected) * norm),
            "variance": variance,
            "relative_variance": variance / norm**2,
            "mse": mse,
            "relative_mse": mse / norm**2,
            "snr": result["snr"],
        }
    if images:
        by_image = [np.reshape(part, [images, -1]) for part in (mean, variances)]
        norms = np.linalg.norm(by_image[0], axis=1)
        result["std_to_mean"] = np.mean(np.sqrt(np.sum(by_image[1], axis=1)) / norms)
    return {name: float(value) for name, value in result.items()}
