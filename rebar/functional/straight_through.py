"""Straight-through layers for categorical latents: hard samples with a surrogate gradient.

    z, probs = rebar.straight_through.reinmax(logits, seed=0, step=step)

z [..., C] is one-hot, drawn from probs = softmax(logits) at any temperature; for decoupled_st from
probs = softmax(logits / T_f); those of redge and reindge DO NOT FOLLOW probs. The gradient w.r.t.
the logits is the estimator's surrogate for an upstream gradient g of z, plus softmax's gradient for
that of probs. With l = logits, pi = probs, D = z and J(p) g = p (g - <p, g>), the surrogates are:

    st           J(softmax(l / T)) g / T
    decoupled_st the same at T = T_b
    st_gumbel    J(softmax((l + G) / T)) g / T, with the Gumbels G of D
    gumbel_rao   the mean of that over K draws of G given D
    gst          J(softmax(t / T)) g / T, t logits in which D exceeds the others by a gap
    reinmax      2 J((softmax(l / T) + D) / 2) g - 1/2 J(pi) g
    reinmax_rao  2 Gumbel-Rao at the logits log((pi + D) / 2) - 1/2 J(pi) g
    reinmax_cv   reinmax at T = 1 + scale (that Gumbel-Rao - a second term)
    reinmax_rk2  b J(pi) g + (1 - b) (D - pi) <D - pi, g>
    redge        J(p) g at the end of a diffusion and through it; D ~ p instead of pi
    reindge      the same with ReinMax at its end

All are biased estimates of the gradient of a mean loss; at T = 1, st and reinmax_rk2 are unbiased
for a loss linear in z, and reinmax for a quadratic one. Complete formulas and sources:
`rebar/core/straight_through.py`. All are pure functions for float32 and float64, the same in eager
mode, tf.function and under XLA, and finite for logits up to 1e4 in size.

Arguments of all:
    logits: [..., C], float32 or float64.
    temperature: T > 0, a number or a scalar tensor; not an argument of decoupled_st, reinmax_rk2,
      redge and reindge.
    seed, step: numbers that determine the noise. `seed` is an integer or several, `step` an integer
      or an integer tensor. Replicas of a tf.distribute strategy draw different noise. Layers of one
      model need different seeds, e.g. (0, 1) and (0, 2). Do not use optimizer.iterations as the
      step with accumulated gradients: it changes less often than the minibatch.
    noise: instead of seed and step, uniforms in (0, 1) shaped like the logits.

Arguments of gumbel_rao, reinmax_rao and reinmax_cv, which draw noise conditional on D:
    draws: K, at least 1; by default 100, or the length of draws_noise. They are processed in
      chunks; the largest tensor is their noise. From a seed, float32 draws have 16 bits each.
    draws_noise: uniforms [K, ..., C], required with noise.

All raise RebarError for invalid arguments. `rebar.estimate_gradient(..., family="categorical")`
estimates the gradient of any function of z with them, or with an unbiased method.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from rebar.core import categorical, straight_through
from rebar.core.straight_through import FORMS
from rebar.core.validity import Validity
from rebar.functional.arguments import (
    NoiseSource,
    count_of,
    form_of,
    logits_of,
    number_of,
    require_numbers,
    tensor,
)

_PUBLISHED_DRAWS = 100


class Sample(NamedTuple):
    """A sample and its distribution.

    Attributes:
      z: [..., C] one-hot, with the estimator's gradient w.r.t. the logits.
      probs: [..., C] softmax(logits), or softmax(logits / T_f) of decoupled_st, with its exact
        gradient.
    """

    z: tf.Tensor
    probs: tf.Tensor


def st(
    logits: Any, temperature: Any = 1.0, *, noise: Any = None, seed: Any = None, step: Any = None
) -> Sample:
    """Straight-through. Bengio et al. 2013 (arXiv 1308.3432)."""
    call = _Call(logits, temperature, noise, seed, step)
    return call.sample(straight_through.straight_through)


def decoupled_st(
    logits: Any,
    forward_temperature: Any = 1.0,
    backward_temperature: Any = 1.0,
    *,
    noise: Any = None,
    seed: Any = None,
    step: Any = None,
) -> Sample:
    """Straight-through with two temperatures. Shah et al. 2024 (arXiv 2410.13331).

    Args:
      forward_temperature: T_f > 0: z is a sample of `probs` = softmax(logits / T_f). Divergences
        and log q must be those of `probs`.
      backward_temperature: T_b > 0 of the gradient, J(softmax(logits / T_b)) g / T_b.
    """
    call = _Call(logits, 1.0, noise, seed, step)
    forward = call.number(forward_temperature, "forward_temperature", above_0=True)
    backward = call.number(backward_temperature, "backward_temperature", above_0=True)
    call.logits, call.temperature = call.logits / forward, backward / forward
    return call.sample(straight_through.straight_through)


def st_gumbel(
    logits: Any, temperature: Any = 1.0, *, noise: Any = None, seed: Any = None, step: Any = None
) -> Sample:
    """Straight-through Gumbel-softmax. Jang et al. 2017 (arXiv 1611.01144)."""
    call = _Call(logits, temperature, noise, seed, step)
    return call.sample(straight_through.straight_through_gumbel, call.gumbels)


def gumbel_rao(
    logits: Any,
    temperature: Any = 1.0,
    draws: int | None = None,
    *,
    noise: Any = None,
    draws_noise: Any = None,
    seed: Any = None,
    step: Any = None,
) -> Sample:
    """Gumbel-Rao: straight-through Gumbel-softmax with less variance. Paulus et al. 2021."""
    call = _Call(logits, temperature, noise, seed, step)
    return call.sample(straight_through.gumbel_rao, call.exponentials(draws, draws_noise))


def gst(
    logits: Any,
    temperature: Any = 1.0,
    gap: Any = 1.0,
    *,
    noise: Any = None,
    seed: Any = None,
    step: Any = None,
) -> Sample:
    """Gapped straight-through; gap > 0. Fan et al. 2022 (arXiv 2206.07235)."""
    call = _Call(logits, temperature, noise, seed, step)
    return call.sample(
        straight_through.gapped_straight_through, gap=call.number(gap, "gap", above_0=True)
    )


def reinmax(
    logits: Any, temperature: Any = 1.0, *, noise: Any = None, seed: Any = None, step: Any = None
) -> Sample:
    """ReinMax. Liu et al. 2023 (arXiv 2304.08612)."""
    call = _Call(logits, temperature, noise, seed, step)
    return call.sample(straight_through.reinmax)


def reinmax_rao(
    logits: Any,
    temperature: Any = 1.0,
    draws: int | None = None,
    *,
    noise: Any = None,
    draws_noise: Any = None,
    seed: Any = None,
    step: Any = None,
) -> Sample:
    """ReinMax-Rao. Wang & Bui 2026 (arXiv 2603.08257)."""
    call = _Call(logits, temperature, noise, seed, step)
    return call.sample(straight_through.reinmax_rao, call.exponentials(draws, draws_noise))


def reinmax_cv(
    logits: Any,
    temperature: Any = 1.0,
    draws: int | None = None,
    scale: Any = 0.7,
    form: str = "released",
    *,
    noise: Any = None,
    draws_noise: Any = None,
    fresh_noise: Any = None,
    seed: Any = None,
    step: Any = None,
) -> Sample:
    """ReinMax-CV. Wang & Bui 2026 (arXiv 2603.08257).

    Args:
      scale: eta, a number or a scalar tensor.
      form: "released", the authors' code, or "stgs", the paper's formula. Measured, "stgs" raises
        the variance, and "released" lowers it and adds bias.
      fresh_noise: form="stgs": uniforms shaped like the logits, required with noise.
    """
    call = _Call(logits, temperature, noise, seed, step)
    options = {"scale": call.number(scale, "scale"), "form": form_of(form, FORMS["reinmax_cv"])}
    fresh = call.source.fresh(fresh_noise) if form == "stgs" else None
    second = call.gumbels if fresh is None else categorical.gumbels(fresh)
    exponentials = call.exponentials(draws, draws_noise)
    return call.sample(straight_through.reinmax_cv, exponentials, second, **options)


def reinmax_rk2(
    logits: Any,
    beta: Any = 0.5,
    form: str = "consistent",
    *,
    noise: Any = None,
    seed: Any = None,
    step: Any = None,
) -> Sample:
    """Second-order Runge-Kutta step, without a temperature.

    Args:
      beta: b, a number or a scalar tensor: 1/2 is ReinMax, 1 is straight-through.
      form: "consistent", the formula above, or "released", the code of Wang & Bui 2026, which is
        equal at b = 1/2 and elsewhere wrong by a factor 2 b for linear losses.
    """
    call = _Call(logits, 1.0, noise, seed, step)
    return call.sample(
        straight_through.reinmax_rk2,
        beta=call.number(beta, "beta"),
        form=form_of(form, FORMS["reinmax_rk2"]),
    )


def redge(
    logits: Any,
    steps: int = 5,
    end: Any = 0.5,
    *,
    noise: Any = None,
    fresh_noise: Any = None,
    seed: Any = None,
    step: Any = None,
) -> Sample:
    """ReDGE: a sample of a short diffusion; z DOES NOT FOLLOW probs. Gourevitch et al. 2026.

    Args:
      steps: points of the diffusion, at least 2, as in the authors' code: steps - 1 softmaxes.
      end: t_1 in (0, 1), the noise level at which z is drawn; a lower one has less bias and more
        variance.
      fresh_noise: uniforms shaped like the logits, required with noise: those of the diffusion.
    """
    call = _Call(logits, 1.0, noise, seed, step)
    return call.diffused(steps, end, fresh_noise)


def reindge(
    logits: Any,
    steps: int = 5,
    end: Any = 0.5,
    *,
    noise: Any = None,
    fresh_noise: Any = None,
    seed: Any = None,
    step: Any = None,
) -> Sample:
    """ReinDGE: `redge` with ReinMax at the last step; z DOES NOT FOLLOW probs.

    Arguments are those of `redge`.
    """
    call = _Call(logits, 1.0, noise, seed, step)
    return call.diffused(steps, end, fresh_noise, second_order=True)


LAYERS = {
    layer.__name__: layer
    for layer in (
        *(st, decoupled_st, st_gumbel, gumbel_rao, gst),
        *(reinmax, reinmax_rao, reinmax_cv, reinmax_rk2, redge, reindge),
    )
}
"""Name -> layer."""


class _Call:
    """Validated logits, temperature and noise of one call."""

    def __init__(self, logits, temperature, noise, seed, step):
        self.logits = logits_of(
            logits,
            lambda shape: shape.rank not in (None, 0) and (shape[-1] or 0) >= 2,
            "[..., C] with a static number C >= 2 of categories",
        )
        self._validity = Validity()
        require_numbers(self.logits, self._validity)
        self.temperature = self.number(temperature, "temperature", above_0=True)
        self.source = NoiseSource(self.logits, noise, seed, step, self._validity)
        self.gumbels = categorical.gumbels(self.source.samples())

    def number(self, value, name, above_0=False):
        """Return an option that is one number."""
        return number_of(value, name, self.logits, self._validity, above_0)

    def exponentials(self, draws, draws_noise):
        """Return exponentials of K draws conditional on the sample."""
        if draws is None:
            shape = [] if draws_noise is None else tensor(draws_noise, "draws_noise").shape
            draws = shape[0] if len(shape) else _PUBLISHED_DRAWS
        return self.source.draws(count_of(draws, "draws", 1), draws_noise)

    def sample(self, kernel, *noise, **options):
        """Return Sample(z, probs) with the gradient of a kernel."""
        if kernel is not straight_through.reinmax_rk2:
            options["temperature"] = self.temperature
        logits = self._validity.apply(self.logits)
        z = straight_through.differentiable_sample(kernel, logits, self.gumbels, *noise, **options)
        return Sample(z, tf.nn.softmax(logits))

    def diffused(self, steps, end, fresh_noise, second_order=False):
        """Return Sample(z, probs) of a diffusion."""
        steps = count_of(steps, "steps", 2)
        end = self.number(end, "end", above_0=True)
        self._validity.require(
            tf.convert_to_tensor(end, self.logits.dtype),
            lambda v: v < 1,
            lambda v: f"end={v:g}: must be below 1; use e.g. 0.5",
        )
        normals = tf.math.ndtri(self.source.fresh(fresh_noise))
        logits = self._validity.apply(self.logits)
        z = straight_through.diffused_sample(
            logits, self.gumbels, normals, steps, end, second_order
        )
        return Sample(z, tf.nn.softmax(logits))


__all__ = [
    "LAYERS",
    "Sample",
    "decoupled_st",
    "gst",
    "gumbel_rao",
    "redge",
    "reindge",
    "reinmax",
    "reinmax_cv",
    "reinmax_rao",
    "reinmax_rk2",
    "st",
    "st_gumbel",
]
