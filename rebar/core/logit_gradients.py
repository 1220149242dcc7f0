"""Gradients of E f with respect to Bernoulli logits from values of f alone, for ascent.

With p = sigmoid(logits), samples b = 1[u > 1 - p] and antithetic ones b~ = 1[u < p], which is b
with 1 - u instead of u. Shapes: f [N], samples and logits [N, H] -> [N, H].
"""

import tensorflow as tf

from rebar.core.gradients import require_rank


def _column(values):
    require_rank(values, 1, "the learning signal")
    return values[:, tf.newaxis]


def reinforce(f: tf.Tensor, b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """f (b - p); f [N] may be any learning signal. Williams 1992."""
    return _column(f) * (b - tf.sigmoid(logits))


def arm(f: tf.Tensor, f_antithetic: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """(f(b) - f(b~)) (u - 1/2). Yin & Zhou 2019 (arXiv 1807.11143), equation 7."""
    return _column(f - f_antithetic) * (u - 0.5)


def disarm(
    f: tf.Tensor, f_antithetic: tf.Tensor, b: tf.Tensor, b_antithetic: tf.Tensor, logits: tf.Tensor
) -> tf.Tensor:
    """1/2 (f(b) - f(b~)) (-1)^b~ 1[b != b~] sigmoid(|logits|): ARM's mean given the pair.

    Zero where a unit's pair agrees. sigmoid(|logits|) = max(p, 1 - p) is exact for saturated units.
    Dong, Mnih & Tucker 2020 (arXiv 2006.10680), equation 7.
    """
    # (-1)^b~ 1[b != b~] is b - b~.
    return 0.5 * _column(f - f_antithetic) * (b - b_antithetic) * tf.sigmoid(tf.abs(logits))


def leave_one_out(f: tf.Tensor) -> tf.Tensor:
    """f_k minus the mean of the others: [K, B] -> [K, B], K >= 2. Kool et al. 2019."""
    return f - mean_of_others(f)


def mean_of_others(f: tf.Tensor) -> tf.Tensor:
    """Mean of an example's f except f_k: [K, B] -> [K, B], K >= 2."""
    require_rank(f, 2, "f")
    return (tf.reduce_sum(f, axis=0) - f) / (f.shape[0] - 1)


def bound_with_one_replaced(f: tf.Tensor, replacement: tf.Tensor) -> tf.Tensor:
    """K-sample bound with f_k replaced, for each k: [K, B], [K, B] -> [K, B].

    log 1/K ( sum_{j != k} exp f_j + exp replacement_k ), in nats.
    """
    require_rank(f, 2, "f")
    n = f.shape[0]
    diagonal = tf.eye(n, dtype=tf.bool)[:, :, tf.newaxis]
    # [k, j, B]: row k holds all f_j, with f_k replaced.
    rows = tf.where(diagonal, replacement[:, tf.newaxis], f[tf.newaxis])
    return tf.reduce_logsumexp(rows, axis=1) - tf.math.log(tf.cast(n, f.dtype))
