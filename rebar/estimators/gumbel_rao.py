"""Gumbel-Rao: straight-through Gumbel-Softmax, averaged over the noise given the sample.

    s = 1/K sum_k J(softmax(c_k / T)) u / T,    c_k = logits + G_k,  G_k drawn given argmax = z

stands for the derivative of E log p(x | z) by the logits, u = d log p(x | z) / dz at the hard
sample z; J(p) u = p (u - <p, u>). The mean is that of CatGumbelST, and its variance falls to
Var_z + E Var(. | z) / K.

BIASED for the encoder's parameters; those of the decoder and the prior get the exact gradient at
the samples. One evaluation of f a row, its derivative by z, and K L C exponentials. Learns nothing.

Source: Paulus, Maddison & Krause 2021 (arXiv 2010.04838), equation 9. Published code forms the
C x C Jacobian of every draw; here J is never formed.
"""

from rebar import noise as noise_module
from rebar.core import straight_through
from rebar.errors import RebarError
from rebar.estimators.straight_through import Tempered


class Averaged(Tempered):
    """What the estimators that average over noise given the sample have in common.

    Args:
      temperature: T.
      mc_samples: K, draws of the average.

    Raises:
      RebarError: K < 1.
    """

    def __init__(self, temperature=1.0, mc_samples=100, **kwargs):
        super().__init__(temperature, **kwargs)
        if mc_samples < 1:
            raise RebarError(f"mc_samples={mc_samples} must be at least 1")
        self.mc_samples = mc_samples

    def exponentials(self, logits, noise):
        """[K, N, L, C], the same for all estimators that see this noise and have the same K."""
        shape = [(self.mc_samples + 1) // 2, *logits.shape]
        words = noise_module.words(noise_module.further_key(noise, 0), shape)
        return straight_through.FromWords(words, self.mc_samples)


class GumbelRao(Averaged):
    """CatGumbelRao, see the module's docstring; arguments are those of `Averaged`."""

    def sample(self, logits, gumbels, noise):
        """z [N, L, C]."""
        return straight_through.gumbel_rao_sample(
            logits, gumbels, self.exponentials(logits, noise), self.temperature
        )
