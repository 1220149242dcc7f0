"""ReinMax and its variants: CatReinMax, CatZGR, CatReinMaxRao, CatReinMaxCV, CatReinMaxRK2.

With z the hard sample, pi = softmax(logits), u = d log p(x | z) / dz, J(p) u = p (u - <p, u>),
d E log p(x | z) / d logits is replaced by

    CatReinMax      2 J((softmax(logits / T) + z) / 2) u - 1/2 J(pi) u
    CatZGR          CatReinMax at T = 1: 1/2 J(pi) u + 1/2 (z - pi) <z - pi, u>,  exact for
                    quadratic f; its mean is the limit of that of CatGumbelRao as T tends to 0
    CatReinMaxRao   2 R - 1/2 J(pi) u,  R = Gumbel-Rao at the logits log((pi + z) / 2) given z
    CatReinMaxCV    ReinMax at T = 1, + cv_scale (R - S)
                      cv_form="released"  S = J(softmax(log((pi + z) / 2) + y)) u / T,
                                          y = softmax((logits + G) / T), z = argmax(logits + G)
                      cv_form="stgs"      S = J(softmax((log((pi + z) / 2) + G') / T)) u / T, G' new
    CatReinMaxRK2   b J(pi) u + (1 - b) (z - pi) <z - pi, u>,  b = rk2_beta
                    (rk2_form="consistent"; "released": the authors' code)

BIASED for the encoder's parameters; the gradient of the decoder and the prior is exact at the
samples. One evaluation of f per row and its derivative w.r.t. z; Rao and CV also draw K L C
exponentials. Nothing is learned.

Given z, ReinMax has no noise, so a term with mean zero given z can only add variance: CatReinMaxCV
with cv_form="stgs" has a higher variance than ReinMax, with "released" a lower one and more bias.

Source: Liu et al. 2023 (arXiv 2304.08612); Shekhovtsov 2023 (Cold Analysis of Rao-Blackwellized
Straight-Through Gumbel-Softmax Gradient Estimator, ICML), who derives ZGR as that limit; Wang & Bui
2026 (arXiv 2603.08257). Differences from the code of the last: no C x C Jacobians; RK2 in a form
that is exact for linear f at every b, where the mean of the released form is 2 b times the gradient
(see `rebar.core.straight_through`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import categorical, straight_through
from rebar.core.straight_through import differentiable_sample
from rebar.estimators.gumbel_rao import Averaged
from rebar.estimators.straight_through import SampledThrough, Tempered, checked_form
from rebar.types import Noise


class ReinMax(Tempered):
    """CatReinMax: temperature T."""

    def sample(self, logits: tf.Tensor, gumbels: tf.Tensor, noise: Noise) -> tf.Tensor:
        kernel = straight_through.reinmax
        return differentiable_sample(kernel, logits, gumbels, self.temperature)


class ZGR(ReinMax):
    """CatZGR: `ReinMax` whose temperature is 1, whatever that of the run is."""

    verified: Sequence[Mapping[str, Any]] = ({},)

    def __init__(self, **kwargs):
        super().__init__(1.0, **kwargs)


class ReinMaxRao(Averaged):
    """CatReinMaxRao: temperature T and mc_samples K of R."""

    def sample(self, logits: tf.Tensor, gumbels: tf.Tensor, noise: Noise) -> tf.Tensor:
        kernel, e = straight_through.reinmax_rao, self.exponentials(logits, noise)
        return differentiable_sample(kernel, logits, gumbels, e, self.temperature)


class ReinMaxCV(Averaged):
    """CatReinMaxCV: temperature T of R and S, mc_samples K of R, scale and form."""

    verified: Sequence[Mapping[str, Any]] = (
        {"temperature": 0.8, "mc_samples": 3},
        {"temperature": 0.8, "mc_samples": 3, "cv_form": "stgs"},
    )

    def __init__(self, temperature=1.0, mc_samples=100, cv_scale=0.7, cv_form="released", **kwargs):
        super().__init__(temperature, mc_samples, **kwargs)
        self.cv_scale = cv_scale
        self.cv_form = checked_form(cv_form, "released", "stgs")

    def sample(self, logits: tf.Tensor, gumbels: tf.Tensor, noise: Noise) -> tf.Tensor:
        second = gumbels
        if self.cv_form == "stgs":
            key = noise_module.further_key(noise, 1)
            second = categorical.gumbels(noise_module.uniforms(key, tf.shape(logits), logits.dtype))
        noises = self.exponentials(logits, noise), second
        options = self.temperature, self.cv_scale, self.cv_form
        return differentiable_sample(
            straight_through.reinmax_cv, logits, gumbels, *noises, *options
        )


class ReinMaxRK2(SampledThrough):
    """CatReinMaxRK2: rk2_beta = 1/2 is ReinMax and 1 is ST, both at T = 1."""

    verified: Sequence[Mapping[str, Any]] = (
        {"rk2_beta": 0.8},
        {"rk2_beta": 0.8, "rk2_form": "released"},
    )

    def __init__(self, rk2_beta=0.5, rk2_form="consistent", **kwargs):
        super().__init__(**kwargs)
        self.rk2_beta = rk2_beta
        self.rk2_form = checked_form(rk2_form, "consistent", "released")

    def sample(self, logits: tf.Tensor, gumbels: tf.Tensor, noise: Noise) -> tf.Tensor:
        kernel = straight_through.reinmax_rk2
        return differentiable_sample(kernel, logits, gumbels, self.rk2_beta, self.rk2_form)
