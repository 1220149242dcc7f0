"""Leave-one-out of coupled samples of categorical variables: see `rebar.estimators.carms`."""

import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from rebar import noise

_MOST_PAIRS, _RANDOM_ORDERS = 55, 32


def chains(z: tf.Tensor, logits: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Return n - 1 samples [n - 1, N, V, C], and the gradient as a function of f [n, N].

    Args:
      z, logits: [N, V, C] main chain's samples and their logits.
      u: [n, 2, N, V] uniforms, float64.
    """
    n = u.shape[0]
    ranks, independent = orders(logits.shape[-1])
    # Differences of cumulative probabilities need more digits than float32 has.
    pi, double = tf.nn.softmax(tf.cast(logits, tf.float64)), tf.cast(z, tf.float64)
    below = probability_before(pi, ranks)
    others = tf.cast(coupled(double, pi, below, ranks, independent, u), z.dtype)
    samples = tf.concat([z[tf.newaxis], others], axis=0)

    def gradient(f):
        classes = tf.cast(samples, tf.float64)
        p = tf.einsum("mnvc,nvc->mnv", classes, pi)
        low = tf.einsum("mnvc,nvrc->mnvr", classes, below)
        total = tf.zeros_like(z)
        for m, k in itertools.combinations(range(n), 2):
            pair = pair_probability(low[m], p[m], low[k], p[k], n)
            r = tf.cast(ratio(p[m], p[k], pair, independent), z.dtype)
            weight = r * (f[m] - f[k])[:, tf.newaxis]
            total += weight[..., tf.newaxis] * (samples[m] - samples[k])
        return total / (n * (n - 1))

    return others, gradient


def orders(n_categories: int) -> tuple[tf.Tensor, bool]:
    """Return the positions of the categories in R orders, [R, C], and whether these are random."""
    c = n_categories
    if c * (c - 1) // 2 > _MOST_PAIRS:
        random = noise.generator(0)
        ranks = [random.permutation(c) for _ in range(_RANDOM_ORDERS)]
        return tf.constant(np.stack(ranks), tf.int32), True
    pairs = itertools.combinations(range(c), 2)
    sequences = [[i, *(k for k in range(c) if k not in (i, j)), j] for i, j in pairs]
    return tf.constant(np.argsort(sequences, axis=1), tf.int32), False


def probability_before(pi: tf.Tensor, ranks: tf.Tensor) -> tf.Tensor:
    """Return the start of each category's interval in each order: [N, V, C] -> [N, V, R, C]."""
    before = tf.cast(ranks[:, tf.newaxis] < ranks[:, :, tf.newaxis], pi.dtype)
    return tf.einsum("nvc,rac->nvra", pi, before)


def coupled(
    z: tf.Tensor,
    pi: tf.Tensor,
    below: tf.Tensor,
    ranks: tf.Tensor,
    independent: bool,
    u: tf.Tensor,
) -> tf.Tensor:
    """Return n - 1 samples coupled with samples z: [n - 1, N, V, C].

    Args:
      z: [N, V, C] main chain's samples.
      pi: [N, V, C] their probabilities.
      below: [N, V, R, C] from `probability_before`.
      ranks: [R, C] from `orders`.
      independent: the samples are independent with probability 1 / (R + 1).
      u: [n, 2, N, V] uniforms.
    """
    n, n_orders = u.shape[0], ranks.shape[0]
    case = tf.cast(u[0, 0] * (n_orders + independent), tf.int32)
    order = tf.minimum(case, n_orders - 1)
    start, rank = tf.gather(below, order, batch_dims=2), tf.gather(ranks, order)
    inside = start + u[0, 1][..., tf.newaxis] * pi
    first = tf.reduce_sum(z * inside, axis=-1) ** (1 / (n - 1))  # 1 - e_1
    e = -tf.math.log(u[1:, 0])
    v = (1 - first * e / tf.reduce_sum(e, axis=0)) ** (n - 1)
    v = tf.where(case < n_orders, v, u[1:, 1])
    passed = v[..., tf.newaxis] >= start + pi
    position = tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1, keepdims=True)
    return tf.cast(rank == tf.minimum(position, z.shape[-1] - 1), z.dtype)


def pair_probability(
    low: tf.Tensor, p: tf.Tensor, other_low: tf.Tensor, other_p: tf.Tensor, n: int
) -> tf.Tensor:
    """Return P of two categories in each order: [N, V, R].

    Args:
      low, other_low: [N, V, R] starts of the two intervals.
      p, other_p: [N, V] their lengths.
      n: number of samples.
    """
    ends = [
        [a ** (1 / (n - 1)), (a + w[..., tf.newaxis]) ** (1 / (n - 1))]
        for a, w in ((low, p), (other_low, other_p))
    ]

    def both_below(s, t):
        return tf.maximum(s + t - 1, 0) ** (n - 1)

    (a, b), (c, d) = ends
    return both_below(b, d) - both_below(a, d) - both_below(b, c) + both_below(a, c)


def ratio(p: tf.Tensor, other_p: tf.Tensor, pair: tf.Tensor, independent: bool) -> tf.Tensor:
    """Return r for pairs of different categories: [N, V].

    Args:
      p, other_p: [N, V] probabilities of the two categories.
      pair: [N, V, R] probabilities of the pair in each order.
      independent: the samples are independent with probability 1 / (R + 1).
    """
    both, cases = p * other_p, pair.shape[-1] + independent
    total = tf.reduce_sum(pair, axis=-1) + (both if independent else 0)
    # At least `both`, but for rounding.
    return tf.math.divide_no_nan(cases * both, tf.maximum(total, both))
