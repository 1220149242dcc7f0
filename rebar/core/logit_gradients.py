"""Gradients of E f with respect to a layer's logits, for ascent.

For both families (`rebar.core.families`): `reinforce`, `relaxed_control`, `double_cv`, and the
learning signals. For Bernoulli units alone, with p = sigmoid(logits), samples b = 1[u > 1 - p] and
antithetic ones b~ = 1[u < p], which is b with 1 - u instead of u: `arm`, `disarm`, `arms` of more
than two, and `leg`. Shapes: f [N], samples and logits [N, H] or [N, V, C] -> the same.
"""

from collections.abc import Callable

import tensorflow as tf

from rebar.core import bernoulli, families
from rebar.core.gradients import require_rank


def _column(values, like):
    require_rank(values, 1, "the learning signal")
    return families.column(values, like)


def reinforce(f: tf.Tensor, b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """f (b - p), p the mean of b; f [N] may be any learning signal. Williams 1992."""
    return _column(f, b) * families.of(b).score(b, logits)


def relaxed_control(
    signal: tf.Tensor,
    derivative: tf.Tensor,
    score: tf.Tensor,
    coupling: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """signal e + R' dc/dz: REBAR's and RELAX's control variate c at relaxed samples.

    e is the score d log q / d logits and R the derivative of the noise z given the hard sample with
    respect to the logits (`Family.coupling`). With signal = c - f this is minus the estimate: the
    conditional and unconditional terms, at the same z, differ only in the path through the noise.
    Tucker et al. 2017, equations 7 and 9; Grathwohl et al. 2018, equation 9; docs/design.md.
    """
    return _column(signal, score) * score + coupling(derivative)


def arm(f: tf.Tensor, f_antithetic: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """(f(b) - f(b~)) (u - 1/2). Yin & Zhou 2019 (arXiv 1807.11143), equation 7."""
    return _column(f - f_antithetic, u) * (u - 0.5)


def disarm(
    f: tf.Tensor, f_antithetic: tf.Tensor, b: tf.Tensor, b_antithetic: tf.Tensor, logits: tf.Tensor
) -> tf.Tensor:
    """1/2 (f(b) - f(b~)) (-1)^b~ 1[b != b~] sigmoid(|logits|): ARM's mean given the pair.

    Zero where a unit's pair agrees. sigmoid(|logits|) = max(p, 1 - p) is exact for saturated units.
    Dong, Mnih & Tucker 2020 (arXiv 2006.10680), equation 7.
    """
    # (-1)^b~ 1[b != b~] is b - b~.
    return 0.5 * _column(f - f_antithetic, b) * (b - b_antithetic) * tf.sigmoid(tf.abs(logits))


def arms(f: tf.Tensor, b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """rho/(n-1) sum_m (f_m - mean f) (b_m - p): f [n, N], n antithetic samples [n, N, H] -> [N, H].

    rho is the `arms_correction`. Dimitriev & Zhou 2021 (arXiv 2105.14141).
    """
    n = b.shape[0]
    signal = (f - tf.reduce_mean(f, axis=0))[..., tf.newaxis]
    summed = tf.reduce_sum(signal * (b - tf.sigmoid(logits)), axis=0)
    return arms_correction(logits, n) / (n - 1) * summed


def arms_correction(logits: tf.Tensor, n: int) -> tf.Tensor:
    """rho = p (1 - p) / (p - P(b_m = b_m' = 1)) of `bernoulli.antithetic_samples`, at least 1/2.

    With q = min(p, 1 - p) it is (1 - q) / (1 - max(2 - q^(-1/(n-1)), 0)^(n-1)); same shape.
    """
    q = bernoulli.rare(logits)
    return (1 - q) / (1 - tf.maximum(2 - q ** (-1 / (n - 1)), 0) ** (n - 1))


def leg(f: tf.Tensor, f_flipped: tf.Tensor, b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """p (1 - p) (1 - 2 b) (f_flipped - f), f_flipped [N, H] of each unit flipped in turn.

    The local expectation gradient: Titsias & Lazaro-Gredilla 2015 (arXiv 1503.01494).
    """
    return families.BERNOULLI.mean_product(logits, (1 - 2 * b) * (f_flipped - _column(f, b)))


def double_cv(
    f: tf.Tensor,
    b: tf.Tensor,
    logits: tf.Tensor,
    derivative: tf.Tensor,
    scale: tf.Tensor,
    n_samples: int,
) -> tf.Tensor:
    """(f_k + a c_k - mean of the others) (b_k - m_k) - a J_k D_k, c_k = (b_k - m_k) . D_k.

    m_k and J_k are mean and covariance of b_k, D_k the mean of the derivatives at the example's
    other samples. Titsias & Shi 2022 (arXiv 2111.05300).

    Args:
      f: [N], K rows per example, sample-major.
      b, logits, derivative: [N, ...] samples, logits, and df/db.
      scale: a.
      n_samples: K >= 2.
    """
    family = families.of(logits)
    score = family.score(b, logits)
    d = tf.reshape(mean_of_others(tf.reshape(derivative, [n_samples, -1])), tf.shape(b))
    value = f + scale * families.row_sum(score * d)
    signal = tf.reshape(leave_one_out(tf.reshape(value, [n_samples, -1])), [-1])
    return _column(signal, b) * score - scale * family.mean_product(logits, d)


def leave_one_out(f: tf.Tensor) -> tf.Tensor:
    """f_k minus the mean of the others: [K, B] -> [K, B], K >= 2. Kool et al. 2019."""
    return f - mean_of_others(f)


def mean_of_others(f: tf.Tensor) -> tf.Tensor:
    """Mean of an example's f except f_k: [K, B] -> [K, B], K >= 2."""
    require_rank(f, 2, "f")
    return (tf.reduce_sum(f, axis=0) - f) / (f.shape[0] - 1)


def log_mean_of_others(f: tf.Tensor) -> tf.Tensor:
    """log of the mean of an example's exp f except that of f_k: [K, B] -> [K, B], K >= 2."""
    require_rank(f, 2, "f")
    n = f.shape[0]
    others = [[j for j in range(n) if j != k] for k in range(n)]
    logs = tf.reduce_logsumexp(tf.gather(f, others), axis=1)  # [k, j, B] -> [k, B]
    return logs - tf.math.log(tf.cast(n - 1, f.dtype))


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
