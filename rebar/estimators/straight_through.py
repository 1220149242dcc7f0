"""Straight-through estimators: CatST, CatDecoupledST, CatGumbelST, CatGST.

    g = - mean_n [ s . d logits  +  d f at fixed z ],   s = kernel(logits, z, d log p(x | z) / dz)

z is the hard one-hot sample, and s replaces d E log p(x | z) / d logits. With pi = softmax(logits),
u = d log p(x | z) / dz, J(p) u = p (u - <p, u>), T the temperature:

    CatST         s = J(softmax(logits / T)) u / T                    exact for linear f
    CatGumbelST   s = J(y) u / T,  y = softmax((logits + G) / T), z = argmax(logits + G)
    CatGST        s = J(softmax(t / T)) u / T,  t = logits with z raised to their maximum and the
                  others lowered until they are `gst_gap` below it

CatDecoupledST divides the logits l of the network by T_f to get those of q, logits = l / T_f, and
has another temperature T_b in the backward pass:

    CatDecoupledST    q = softmax(l / T_f),   s w.r.t. l = J(softmax(l / T_b)) u / T_b

log q, divergences and bounds are those of softmax(l / T_f), in training and in evaluation: models
of hyperparameters and objectives divide by T_f (`Estimator.posterior_temperature`). Estimators see
q's logits, for which this is CatST at T = T_b / T_f.

BIASED for the encoder's parameters at any T; the gradient of the decoder and the prior is exact at
the samples. T and T_b do not change how z is drawn. One evaluation of f per row, and its derivative
w.r.t. z. Nothing is learned.

Source: Bengio et al. 2013 (arXiv 1308.3432); Jang et al. 2017 (arXiv 1611.01144); Fan et al. 2022
(arXiv 2206.07235); CatDecoupledST: Shah et al. 2024 (arXiv 2410.13331). Formulas are in
`rebar.core.straight_through`. Difference from published code: noise is an argument, so that
estimators can be compared on the same samples.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar.core import families, gradients, straight_through
from rebar.core.straight_through import differentiable_sample
from rebar.core.validity import positive
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.noise import fold_in, uniforms
from rebar.types import Estimate, Noise

_FURTHER = 1000
"""Offset of the keys of additional noise of the layers above the first one."""

COMPILED_UNITS = 64
"""Maximum of the widths of all layers for which compiled steps are faster for all estimators.

Compiled over uncompiled time of ReinMax and ReinMaxRao, one core, batch 100: .86 and .89 at 8x4;
.85 and 1.09 at 4x24; .87 and 1.16 at 16x12; .87 and 1.66 at 64x8 (XLA draws slowly in loops).
"""


class SampledThrough(Estimator):
    """Base class of estimators with a hard sample and a custom backward pass. Metrics: none."""

    unbiased = False
    generator_at_hard = True
    jit_pays = False
    through = True

    @classmethod
    def from_hparams(cls, hparams):
        """Build from hparams; small models are compiled, see `COMPILED_UNITS`."""
        estimator = super().from_hparams(hparams)
        estimator.jit_pays = sum(map(math.prod, hparams.layers)) <= COMPILED_UNITS
        return estimator

    def sample(self, logits: tf.Tensor, gumbels: tf.Tensor, noise: Noise) -> tf.Tensor:
        """Return one-hot z [N, L, C] with the surrogate gradient w.r.t. logits [N, L, C]."""
        raise NotImplementedError(f"{type(self).__name__} must implement sample()")

    def sample_through(self, logits: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        u = uniforms(fold_in(key, 0), tf.shape(logits), logits.dtype)
        z = families.of(logits).noise(u)
        return self._sample_layer(logits, z, Noise((), 1, key=fold_in(key, 1)))

    def _sample_layer(self, logits, z, noise):
        """Samples of a layer with noise z of its logits.

        Bernoulli units are variables of two categories, off and on. Their noise is 0 and z, since
        only differences of noise matter.
        """
        if logits.shape.rank == 3:
            return self.sample(logits, z, noise)
        logits, z = (tf.stack([tf.zeros_like(v), v], axis=-1) for v in (logits, z))
        return self.sample(logits, z, noise)[..., 1]

    def estimate(self, model: Any, x: tf.Tensor, noise: Noise) -> Estimate:

        def sampler(layer, logits):
            draws = noise
            if layer and noise.key is not None:
                draws = noise._replace(key=fold_in(noise.key, _FURTHER + layer))
            return self._sample_layer(logits, families.noise_at(noise, layer, logits), draws)

        sampler.surrogate = True  # type: ignore[attr-defined]

        with tf.GradientTape() as tape:
            f = model.rollout(x, sampler, noise.n_samples).objective
            loss = -tf.reduce_mean(f)
        gradient = gradients.gradient_or_zero(tape, loss, model.trainable_variables)
        return Estimate(gradient, [], f, {})


class Tempered(SampledThrough):
    """Base class of estimators with a temperature T in the backward pass."""

    verified: Sequence[Mapping[str, Any]] = ({"temperature": 0.8},)

    def __init__(self, temperature=1.0, **kwargs):
        super().__init__(**kwargs)
        positive(temperature, "temperature")
        self.temperature = temperature


class StraightThrough(Tempered):
    """CatST: temperature T."""

    def sample(self, logits: tf.Tensor, gumbels: tf.Tensor, noise: Noise) -> tf.Tensor:
        kernel = straight_through.straight_through
        return differentiable_sample(kernel, logits, gumbels, self.temperature)


class DecoupledStraightThrough(SampledThrough):
    """CatDecoupledST: temperatures T_f and T_b."""

    verified: Sequence[Mapping[str, Any]] = ({"forward_temperature": 1.25},)

    def __init__(self, forward_temperature=1.0, backward_temperature=1.0, **kwargs):
        super().__init__(**kwargs)
        self.posterior_temperature = positive(forward_temperature, "forward_temperature")
        self.backward_temperature = positive(backward_temperature, "backward_temperature")

    def sample(self, logits: tf.Tensor, gumbels: tf.Tensor, noise: Noise) -> tf.Tensor:
        temperature = self.backward_temperature / self.posterior_temperature
        kernel = straight_through.straight_through
        return differentiable_sample(kernel, logits, gumbels, temperature)


class StraightThroughGumbel(Tempered):
    """CatGumbelST: temperature T."""

    def sample(self, logits: tf.Tensor, gumbels: tf.Tensor, noise: Noise) -> tf.Tensor:
        kernel = straight_through.straight_through_gumbel
        return differentiable_sample(kernel, logits, gumbels, gumbels, self.temperature)


class GappedStraightThrough(Tempered):
    """CatGST: temperature T; gst_gap is 1 in the paper's GST-1.0."""

    def __init__(self, temperature=1.0, gst_gap=1.0, **kwargs):
        super().__init__(temperature, **kwargs)
        self.gst_gap = positive(gst_gap, "gst_gap")

    def sample(self, logits: tf.Tensor, gumbels: tf.Tensor, noise: Noise) -> tf.Tensor:
        kernel = straight_through.gapped_straight_through
        return differentiable_sample(kernel, logits, gumbels, self.temperature, self.gst_gap)


def checked_form(form: str, *allowed: str) -> str:
    """Return a form, which must be one of those allowed."""
    if form not in allowed:
        raise RebarError(f"form={form!r}: choose from {', '.join(allowed)}")
    return form
