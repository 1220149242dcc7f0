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

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from rebar import noise as noise_module
from rebar.estimators.layerwise import Layerwise, values

_FURTHER = 64
"""Index of the first layer's further noise key."""


def stick(n_categories: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the categories left and right of each node of stick breaking, [C - 1, C] each."""
    everything = np.eye(n_categories), np.triu(np.ones([n_categories] * 2), 1)
    left, right = (side[:-1].astype(bool) for side in everything)
    return left, right


def balanced(n_categories: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the categories left and right of each node of a balanced tree, [C - 1, C] each."""
    left: list[np.ndarray] = []
    right: list[np.ndarray] = []
    ranges = [range(n_categories)]
    for categories in ranges:
        if len(categories) > 1:
            half = (len(categories) + 1) // 2
            for side, part in ((left, categories[:half]), (right, categories[half:])):
                side.append(np.isin(np.arange(n_categories), part))
                ranges.append(part)
    return np.array(left), np.array(right)


class _Pairs(Layerwise):
    """Base class; subclasses implement `_factor`, the cotangent divided by f - f~."""

    families = ("categorical",)
    tree: Callable[[int], tuple] = staticmethod(stick)

    def _cotangent(self, model, x, noise, hard, layer):
        logits = tf.stop_gradient(hard.logits[layer])
        order = ascending(logits)
        a, b = (tf.gather(v, order, batch_dims=2) for v in (logits, hard.samples[layer]))
        sides = [tf.constant(side) for side in self.tree(logits.shape[-1])]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(a)
            phi = node_logits(a, *sides)
        left, right = (tf.cast(side, a.dtype) for side in sides)
        key = noise_module.further_key(noise, _FURTHER + layer)
        u = noise_module.uniforms(key, tf.shape(phi), phi.dtype)
        turn, active = decisions(b, left, right)
        other = leaves(
            tf.cast(u < antithetic_probability(phi, turn, active), phi.dtype), left, right
        )
        nodes = [(turn, active), decisions(other, left, right)]
        factor = self._factor(tape, a, b, other, phi, nodes)
        back = tf.argsort(order, axis=-1)
        other, factor = (tf.gather(v, back, batch_dims=2) for v in (other, factor))
        f, f_other = tf.unstack(values(model, x, noise, hard, layer, other[tf.newaxis]), num=2)
        return (f - f_other)[:, tf.newaxis, tf.newaxis] * factor

    def _factor(self, tape, a, b, other, phi, nodes):
        return tape.gradient(phi, a, node_factor(phi, *nodes))


class DisARMSB(_Pairs):
    """See the module's docstring. Metrics: none."""


class DisARMTree(_Pairs):
    """See the module's docstring. Metrics: none."""

    tree = staticmethod(balanced)


class DisARMIW(_Pairs):
    """See the module's docstring. Metrics: none."""

    def _factor(self, tape, a, b, other, phi, nodes):
        return 0.5 * pair_weight(phi, *nodes)[..., tf.newaxis] * (b - other)


def ascending(logits: tf.Tensor) -> tf.Tensor:
    """Return the categories in ascending order of their probabilities, [N, V, C]."""
    return tf.argsort(logits, axis=-1, stable=True)


def node_logits(logits: tf.Tensor, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Return phi [N, V, C - 1] of logits [N, V, C]."""

    def total(side):
        masked = tf.where(side, logits[..., tf.newaxis, :], -np.inf)
        return tf.reduce_logsumexp(masked, axis=-1)

    return total(left) - total(right)


def decisions(b: tf.Tensor, left: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return b_i (0 where inactive) and 1[active] of samples [N, V, C]: [N, V, C - 1] each."""
    turn = tf.linalg.matmul(b, left, transpose_b=True)
    return turn, turn + tf.linalg.matmul(b, right, transpose_b=True)


def leaves(turn: tf.Tensor, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Return the samples [N, V, C] of decisions at all nodes [N, V, C - 1]."""
    against = tf.linalg.matmul(1 - turn, left) + tf.linalg.matmul(turn, right)
    return tf.cast(against < 0.5, turn.dtype)


def antithetic_probability(phi: tf.Tensor, turn: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
    """Return P(b~_i = 1) given the main chain's decisions: b_i = 1[u < p], b~_i = 1[1 - u < p]."""
    after_left = tf.maximum(1 - tf.exp(-phi), 0)  # (2 p - 1) / p
    after_right = tf.exp(tf.minimum(phi, 0))  # min(p, 1 - p) / (1 - p)
    given = tf.where(turn > 0.5, after_left, after_right)
    return tf.where(active > 0.5, given, tf.sigmoid(phi))


def node_factor(phi: tf.Tensor, main: tuple, other: tuple) -> tf.Tensor:
    """Return h [N, V, C - 1] of the decisions of both samples."""
    (b, active), (b_other, active_other) = main, other
    p, both = tf.sigmoid(phi), active * active_other
    pair = (b - b_other) * tf.sigmoid(tf.abs(phi))
    single = (active - both) * (b - p) - (active_other - both) * (b_other - p)
    return 0.5 * (both * pair + single)


def pair_weight(phi: tf.Tensor, main: tuple, other: tuple) -> tf.Tensor:
    """Return w [N, V] of the decisions of both samples; of no use if these are equal."""
    (b, active), (b_other, active_other) = main, other
    both, differ = active * active_other, tf.abs(b - b_other)
    passed = both * (1 - b) * (1 - b_other)
    log_w = -passed * tf.math.log1p(-tf.exp(2 * tf.where(passed > 0.5, phi, -1.0)))
    log_w += both * differ * tf.math.log_sigmoid(tf.abs(phi))
    return tf.exp(tf.reduce_sum(log_w, axis=-1))
