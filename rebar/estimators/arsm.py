"""ARSM: the score of a layer from swapped noise (CatARSM).

The main chain's sample of a categorical variable is argmin_c (log w_c - logits_c) with w of a flat
Dirichlet distribution. Along the main chain b_1 ... b_L, let F_ij be the value of the chain that
has the samples with w_i and w_j swapped in all variables of layer l, and continues above with the
main chain's noise; F_ii = f. With N rows and C categories, for each variable of layer l,

    g = - mean_N [ sum_l ( sum_j (1/C - w_j) (F_jc - mean_i F_ji) )_c . d logits_l  +  d log p ]

Unbiased for the ELBO: given the layers under l and the noise above it, f is a function of b_l, of
which this is the augment-REINFORCE-swap-merge gradient.

1 + sum_l C (C - 1) / 2 evaluations of f per row, for C categories in layer l. Nothing is learned.

Source: Yin, Yue & Zhou 2019 (ARSM: Augment-REINFORCE-Swap-Merge Estimator for Gradient
Backpropagation Through Categorical Variables, arXiv 1905.01413). Differences from the published
code: all swaps are evaluated, also those with equal samples; layers share the noise above the
swapped one; p follows log p at the main chain.
"""

import tensorflow as tf

from rebar.core import families, swapped
from rebar.estimators.layerwise import Layerwise, values


class ARSM(Layerwise):
    """See the module's docstring. Metrics: none."""

    families = ("categorical",)

    def _chains(self, shape):
        return shape[1] * (shape[1] - 1) // 2

    def _cotangent(self, model, x, noise, hard, layer):
        logits = tf.stop_gradient(hard.logits[layer])
        u = families.uniforms_at(noise, layer, logits)
        others, gradient = swapped.chains(logits, u)
        return gradient(values(model, x, noise, hard, layer, others))
