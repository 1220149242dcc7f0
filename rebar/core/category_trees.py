"""Antithetic pairs of leaves of binary trees: see `rebar.estimators.categorical_disarm`."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf


def chains(
    z: tf.Tensor, logits: tf.Tensor, u: tf.Tensor, tree: Callable, weighted: bool = False
) -> tuple[tf.Tensor, Callable]:
    """Return the antithetic samples [1, N, V, C], and the gradient as a function of f [2, N].

    Args:
      z, logits: [N, V, C] main chain's samples and their logits.
      u: [N, V, C - 1] uniforms.
      tree: `stick` or `balanced`.
      weighted: by the probabilities of pairs (IW), instead of DisARM for the decisions.
    """
    order = ascending(logits)
    a, b = (tf.gather(v, order, batch_dims=2) for v in (logits, z))
    sides = [tf.constant(side) for side in tree(logits.shape[-1])]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(a)
        phi = node_logits(a, *sides)
    left, right = (tf.cast(side, a.dtype) for side in sides)
    turn, active = decisions(b, left, right)
    turns = tf.cast(u < antithetic_probability(phi, turn, active), phi.dtype)
    other = leaves(turns, left, right)
    nodes = [(turn, active), decisions(other, left, right)]
    if weighted:
        factor = 0.5 * pair_weight(phi, *nodes)[..., tf.newaxis] * (b - other)
    else:
        factor = tape.gradient(phi, a, node_factor(phi, *nodes))
    back = tf.argsort(order, axis=-1)
    other, factor = (tf.gather(v, back, batch_dims=2) for v in (other, factor))
    return other[tf.newaxis], lambda f: (f[0] - f[1])[:, tf.newaxis, tf.newaxis] * factor


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
    conditional = tf.where(turn > 0.5, after_left, after_right)
    return tf.where(active > 0.5, conditional, tf.sigmoid(phi))


def node_factor(phi: tf.Tensor, main: tuple, other: tuple) -> tf.Tensor:
    """Return h [N, V, C - 1] of the decisions of both samples."""
    (b, active), (b_other, active_other) = main, other
    p, both = tf.sigmoid(phi), active * active_other
    pair = (b - b_other) * tf.sigmoid(tf.abs(phi))
    single = (active - both) * (b - p) - (active_other - both) * (b_other - p)
    return 0.5 * (both * pair + single)


def pair_weight(phi: tf.Tensor, main: tuple, other: tuple) -> tf.Tensor:
    """Return w [N, V] of the decisions of both samples, which must differ."""
    (b, active), (b_other, active_other) = main, other
    both, differ = active * active_other, tf.abs(b - b_other)
    passed = both * (1 - b) * (1 - b_other)
    log_w = -passed * tf.math.log1p(-tf.exp(2 * tf.where(passed > 0.5, phi, -1.0)))
    log_w += both * differ * tf.math.log_sigmoid(tf.abs(phi))
    return tf.exp(tf.reduce_sum(log_w, axis=-1))
