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

import itertools

import numpy as np
import tensorflow as tf

from rebar.core import categorical, families
from rebar.estimators.layerwise import Layerwise, values


class ARSM(Layerwise):
    """See the module's docstring. Metrics: none."""

    families = ("categorical",)

    def _chains(self, shape):
        return shape[1] * (shape[1] - 1) // 2

    def _cotangent(self, model, x, noise, hard, layer):
        logits = tf.stop_gradient(hard.logits[layer])
        e = categorical.exponentials(families.uniforms_at(noise, layer, logits))
        swapped, index = swaps(logits.shape[-1])
        noises = tf.gather(e, tf.constant(swapped), axis=-1)  # [N, V, M, C]
        noises = -tf.math.log(tf.transpose(noises, [2, 0, 1, 3]))
        samples = categorical.hard_sample(logits, noises)
        f = tf.gather(values(model, x, noise, hard, layer, samples), index)  # [C, C, N]
        w = e / tf.reduce_sum(e, axis=-1, keepdims=True)
        return swap_gradient(f, w)


def swaps(n_categories: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the M swaps of two categories as permutations [M, C], and their numbers [C, C].

    Numbers of pairs start at 1; that of a category with itself is 0.
    """
    permutations, index = [], np.zeros([n_categories] * 2, np.int32)
    for number, (i, j) in enumerate(itertools.combinations(range(n_categories), 2), 1):
        permutation = np.arange(n_categories)
        permutation[[i, j]] = j, i
        permutations.append(permutation)
        index[i, j] = index[j, i] = number
    return np.array(permutations), index


def swap_gradient(f: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """Return the cotangent of the logits: F [C, C, N], w [N, V, C] -> [N, V, C]."""
    deviation = f - tf.reduce_mean(f, axis=1, keepdims=True)
    return tf.einsum("nvj,jcn->nvc", 1 / w.shape[-1] - w, deviation)
