"""CARMS: leave-one-out of n coupled samples of categorical variables (CatCARMS).

Along the main chain b_1 ... b_L, let b_l^1 = b_l and b_l^2 ... b_l^n be n - 1 further samples of
layer l given the layer under it, coupled so that they differ more often than independent ones, and
f_l^m the value of the chain that has b_l^m in layer l and continues above with the main chain's
noise. With N rows, and a, c the categories of one variable in two samples,

    g = - mean_N [ sum_l 1/(n (n-1)) ( sum_{m < m'} r(a_m, a_m') (f_l^m - f_l^m') (b_l^m - b_l^m') )
                         . d logits_l  +  d log p ]
    r(a, c) = pi_a pi_c / P(a, c),    P(a, c) = probability of the pair

The samples: with e_m of a flat Dirichlet distribution, u_m = (1 - e_m)^(n-1) is uniform, and each
variable takes the category in whose interval of the cumulative probabilities u_m lies. The order of
the categories in the sum is drawn per variable and shared by the n samples, so that

    P(a, c) = mean over orders of sum_corners +- G(s, t),
    G(s, t) = P(u_m <= s, u_m' <= t) = max(s^(1/(n-1)) + t^(1/(n-1)) - 1, 0)^(n-1)

The orders have one category of a pair first and the other one last, for all C (C - 1) / 2 pairs; if
these are more than 55, they are 32 random ones, and with probability 1/33 the samples are
independent instead. In both cases r is at most the number of cases, since P(a, c) >= pi_a pi_c if a
is first and c last. The main chain's u_1 is uniform in the interval of its category, and the others
follow from a flat Dirichlet vector times 1 - e_1.

Unbiased for the ELBO: given the layers under l and the noise above it, f is a function of b_l, the
other variables are independent of the pair, and r replaces P by independent pairs, of which this is
leave-one-out.

1 + (n - 1) L evaluations of f per row. Nothing is learned.

Source: Dimitriev & Zhou 2021 (CARMS: Categorical-Antithetic-REINFORCE Multi-Sample Gradient
Estimator, arXiv 2110.14002), with the Dirichlet copula. Differences from the published code: that
smooths r by 1e-3 and clips it to [0.01, 10], which is biased for peaked posteriors; few random
orders for many categories; the main chain is one of the n samples in every layer; p follows log p
at the main chain.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rebar import noise as noise_module
from rebar.estimators.arms import at_least_two
from rebar.estimators.layerwise import Layerwise, values

_FURTHER = 48
"""Index of the first layer's further noise key."""

_MOST_PAIRS, _RANDOM_ORDERS = 55, 32


class CARMS(Layerwise):
    """See the module's docstring.

    Args:
      n_antithetic: the number n of samples, at least 2.

    Metrics: none.
    """

    families = ("categorical",)
    verified: Sequence[Mapping[str, Any]] = ({}, {"n_antithetic": 2})

    def __init__(self, n_antithetic=3, **kwargs):
        super().__init__(**kwargs)
        self.n_antithetic = at_least_two(n_antithetic)

    def _chains(self, shape):
        return self.n_antithetic - 1

    def _cotangent(self, model, x, noise, hard, layer):
        z, logits = hard.samples[layer], tf.stop_gradient(hard.logits[layer])
        key, n = noise_module.further_key(noise, _FURTHER + layer), self.n_antithetic
        ranks, independent = orders(logits.shape[-1], noise_module.fold_in(key, 0))
        # Differences of cumulative probabilities need more digits than float32 has.
        pi, double = tf.nn.softmax(tf.cast(logits, tf.float64)), tf.cast(z, tf.float64)
        below = probability_before(pi, ranks)
        shape = tf.concat([[n, 2], tf.shape(z)[:2]], axis=0)
        u = noise_module.uniforms(noise_module.fold_in(key, 1), shape, tf.float64)
        others = tf.cast(coupled(double, pi, below, ranks, independent, u), z.dtype)
        f = values(model, x, noise, hard, layer, others)
        samples = tf.concat([z[tf.newaxis], others], axis=0)
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


def orders(n_categories: int, key: tf.Tensor) -> tuple[tf.Tensor, bool]:
    """Return the positions of the categories in R orders, [R, C], and whether these are random."""
    c = n_categories
    if c * (c - 1) // 2 > _MOST_PAIRS:
        return tf.argsort(noise_module.uniforms(key, [_RANDOM_ORDERS, c]), axis=-1), True
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
