"""ARM and DisARM: the score of a layer from a pair of antithetic samples (SBNARM, SBNDisARM).

Along the main chain b_1 ... b_L with uniforms u_l, b_l = 1[u_l > 1 - p_l], let f~_l be f of the
chain that equals the main one below layer l, has b~_l = 1[u_l < p_l] in it, and continues above:

    ARM      g = - mean_n [ sum_l ( (f - f~_l) (u_l - 1/2) ) . d logits_l  +  d log p ]
    DisARM   g = - mean_n [ sum_l ( 1/2 (f - f~_l) (-1)^b~_l 1[b_l != b~_l] sigmoid(|logits_l|) )
                            . d logits_l  +  d log p ]

Unbiased for the ELBO: given the layers under it, f and f~_l are values of one function of layer l's
sample (the mean over the layers above) at b_l and b~_l, whether or not the chains share the noise
above it, and both formulas are unbiased for the derivative of its mean w.r.t. the logits. DisARM is
ARM averaged over all u_l with the same pair, so its variance is at most ARM's for each of layer l's
parameters. A unit whose pair agrees contributes 0 (without 1[...] the mean would be equal, as the
two roles of a pair cancel, but not the variance).

1 + L evaluations of f per row (2 for one layer). Nothing is learned.

Source: Yin & Zhou 2019 (arXiv 1807.11143), equation 7; Dong, Mnih & Tucker 2020 (arXiv
2006.10680), equation 7 and section 3.3. Differences from the latter's code: the chains share the
noise above layer l by default (`continuation="independent"` redraws it, as in that code), the main
chain is the first member of every layer's pair instead of being redrawn above it, and p follows
log p at the main chain.
"""

import tensorflow as tf

from rebar.core import families, logit_gradients, samplers
from rebar.estimators.layerwise import Continued
from rebar.noise import Noise
from rebar.types import Model, Rollout


def antithetic_objective(
    model: Model, x: tf.Tensor, noise: Noise, hard: Rollout, layer: int
) -> tuple:
    """f~ [N] and b~ [N, H] of the chain that separates from the main one at a layer."""
    sampler = samplers.antithetic(noise, layer, hard.samples[:layer])
    rollout = model.rollout(x, sampler, noise.n_samples)
    return tf.stop_gradient(rollout.objective), rollout.samples[layer]


class _Pairs(Continued):
    """Base class of ARM and DisARM; arguments are those of `Continued`."""

    families = ("bernoulli",)

    def _cotangent(self, model, x, noise, hard, layer):
        f_antithetic, b_antithetic = antithetic_objective(model, x, noise, hard, layer)
        logits = tf.stop_gradient(hard.logits[layer])
        return self._logit_gradient(
            tf.stop_gradient(hard.objective),
            f_antithetic,
            b_antithetic,
            u=families.uniforms_at(noise, layer, logits),
            b=hard.samples[layer],
            logits=logits,
        )


class ARM(_Pairs):
    """See the module's docstring. Metrics: none."""

    @staticmethod
    def _logit_gradient(f, f_antithetic, b_antithetic, u, b, logits):
        return logit_gradients.arm(f, f_antithetic, u)


class DisARM(_Pairs):
    """See the module's docstring. Metrics: none."""

    @staticmethod
    def _logit_gradient(f, f_antithetic, b_antithetic, u, b, logits):
        return logit_gradients.disarm(f, f_antithetic, b, b_antithetic, logits)
