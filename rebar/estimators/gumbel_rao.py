"""Gumbel-Rao: straight-through Gumbel-Softmax, averaged over the noise given the sample.

    s = 1/K sum_k J(softmax(c_k / T)) u / T,    c_k = logits + G_k,  G_k drawn given argmax = z

replaces d E log p(x | z) / d logits, with u = d log p(x | z) / dz at the hard sample z and
J(p) u = p (u - <p, u>). The mean is that of CatGumbelST, with variance Var_z + E Var(. | z) / K.

BIASED for the encoder's parameters; the gradient of the decoder and the prior is exact at the
samples. One evaluation of f per row, its derivative w.r.t. z, and K L C exponentials. Nothing is
learned.

Source: Paulus, Maddison & Krause 2021 (arXiv 2010.04838), equation 9. Published code forms the
C x C Jacobian of every draw; this code does not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import straight_through
from rebar.errors import integer
from rebar.estimators.straight_through import Tempered
from rebar.types import Noise


class Averaged(Tempered):
    """Base class of estimators that average over K = mc_samples draws at temperature T."""

    verified: Sequence[Mapping[str, Any]] = ({"temperature": 0.8, "mc_samples": 3},)

    def __init__(self, temperature=1.0, mc_samples=100, **kwargs):
        super().__init__(temperature, **kwargs)
        self.mc_samples = integer(mc_samples, "mc_samples", example=100)

    def exponentials(self, logits, noise):
        """Draw [K, N, L, C], equal for all estimators with this noise and K."""
        shape = tf.concat([[(self.mc_samples + 1) // 2], tf.shape(logits)], axis=0)
        words = noise_module.words(noise_module.further_key(noise, 0), shape)
        return straight_through.FromWords(words, self.mc_samples)


class GumbelRao(Averaged):
    """CatGumbelRao: s above."""

    def sample(self, logits: tf.Tensor, gumbels: tf.Tensor, noise: Noise) -> tf.Tensor:
        e = self.exponentials(logits, noise)
        return straight_through.differentiable_sample(
            straight_through.gumbel_rao, logits, gumbels, e, self.temperature
        )
