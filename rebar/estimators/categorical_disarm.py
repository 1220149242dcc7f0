"""DisARM for categorical variables (CatDisARMSB, CatDisARMTree, CatDisARMIW).

A sample of a categorical variable is a leaf of a binary tree: at node i with logit phi_i it goes to
the left (b_i = 1) with probability p_i = sigmoid(phi_i), or to the right. phi_i is the difference
of the logits' log-sum-exp under both sides. Its antithetic sample uses 1 - u_i instead of u_i at
all nodes. Along the main chain b_1 ... b_L, let b~_l be antithetic to b_l in all variables, f~_l
the value of the chain that has b~_l in layer l and continues above with the main chain's noise, and
node i active in a sample that passes it. With N rows,

    SB, Tree   g = - mean_N [ sum_l ( (f - f~_l) h ) . d phi_l  +  d log p ]
               h_i = 1/2 1[b_i != b~_i] (-1)^b~_i sigmoid(|phi_i|)    active in both samples
                     1/2 (b_i - p_i)                                  active in the main one alone
                    -1/2 (b~_i - p_i)                                 active in the other one alone
                     0                                                active in neither
    IW         g = - mean_N [ sum_l 1/2 ( w (f - f~_l) (b_l - b~_l) ) . d logits_l  +  d log p ]
               w = sigmoid(|phi_m|) prod_{i < m} 1 / (1 - exp(2 phi_i))

SB and IW take stick breaking, whose node i has category i at its left and all later ones at its
right; Tree a balanced tree. The categories are in ascending order of their probabilities. m is the
first node where the pair of IW differs.

Unbiased for the ELBO: given the layers under l and the noise above it, f is a function of b_l. SB
and Tree are DisARM for the units b_i, with leave-one-out where only one sample has the unit. In IW
w is the probability of an independent pair over that of the antithetic one, (1 - p_i)^2 over
1 - 2 p_i for a node that both pass. That needs p_i < 1/2, which ascending order guarantees; then w
is at most 2.

1 + L evaluations of f per row. Nothing is learned.

Source: Dong, Mnih & Tucker 2021 (Coupled Gradient Estimators for Discrete Latent Variables, arXiv
2106.08056). Differences from the published code: the categories of IW are sorted, without which it
is biased; the main chain is the first member of every layer's pair, and its nodes' noise is drawn
given its samples; p follows log p at the main chain.
"""

import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import category_trees
from rebar.estimators.layerwise import Layerwise, values

_FURTHER = 64
"""Index of the first layer's further noise key."""


class DisARMSB(Layerwise):
    """See the module's docstring. Metrics: none."""

    families = ("categorical",)
    tree = staticmethod(category_trees.stick)
    weighted = False

    def _cotangent(self, model, x, noise, hard, layer):
        z, logits = hard.samples[layer], tf.stop_gradient(hard.logits[layer])
        key = noise_module.further_key(noise, _FURTHER + layer)
        shape = tf.concat([tf.shape(z)[:2], [z.shape[-1] - 1]], axis=0)
        u = noise_module.uniforms(key, shape, z.dtype)
        other, gradient = category_trees.chains(z, logits, u, self.tree, self.weighted)
        return gradient(values(model, x, noise, hard, layer, other))


class DisARMTree(DisARMSB):
    """See the module's docstring. Metrics: none."""

    tree = staticmethod(category_trees.balanced)


class DisARMIW(DisARMSB):
    """See the module's docstring. Metrics: none."""

    weighted = True
