"""Sampling codes of categorical variables without replacement, and probabilities of their sets.

A code is one category for each of V independent variables; p(code) is the product of their
probabilities. Drawing k codes without replacement equals taking the first k of independent arrivals
at times T ~ Exp(p(code)) of all codes. The first arrivals of codes with a common prefix are found
variable by variable: by the memorylessness of the exponential distribution, the time of a prefix
extended by category c is

    T_c = T + (a_c - min_j a_j) / p(prefix),    a_j ~ Exp(pi_j)

so that the k first codes are among the extensions of the k first prefixes. This is the stochastic
beam search of Kool, van Hoof & Welling 2019 (arXiv 1903.06059).

For a set S of k codes, let h(B) be the probability that the next codes after B are S without B, so
that h({}) is the probability P(S) of the set:

    h(S) = 1,    h(B) = sum_{s in S, not in B} p(s) / (1 - p(B)) h(B and s)
"""

import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from rebar.core import categorical

MOST_CODES = 7
"""Maximum size of a set: the number of terms grows as 2^k."""

SMALLEST = 1e-300
"""Least probability of a category or prefix, in float64."""


def chains(z: tf.Tensor, logits: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Return min(k, C^V) - 1 further codes [M, N, V, C], and the gradient of f [1 + M, N].

    Args:
      z, logits: [N, V, C] main chain's samples, the first code, and their logits.
      u: [V, N, k, C] uniforms, float64.
    """
    double = tf.cast(logits, tf.float64)
    code = tf.argmax(z, axis=-1, output_type=tf.int32)
    further = further_codes(code, tf.nn.softmax(double), u)
    further = tf.one_hot(tf.transpose(further, [1, 0, 2]), z.shape[-1], dtype=z.dtype)
    codes = tf.concat([z[tf.newaxis], further], axis=0)
    log_p = categorical.log_prob(tf.cast(codes, tf.float64), double)
    log_p = tf.reduce_sum(log_p, axis=-1)

    def gradient(f):
        weight, signal = unordered(tf.cast(f, tf.float64), log_p)
        of_code = tf.cast(weight * signal, z.dtype)
        total = tf.reduce_sum(of_code, axis=0)[:, tf.newaxis, tf.newaxis]
        return tf.einsum("kn,knvc->nvc", of_code, codes) - total * tf.nn.softmax(logits)

    return further, gradient


def first_codes(pi: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Draw min(k, C^V) codes without replacement, in order: [N, k, V] categories.

    Args:
      pi: [N, V, C] probabilities, float64.
      u: [V, N, k, C] uniforms.
    """
    k, n_categories = u.shape[2], pi.shape[-1]
    pi = tf.maximum(pi, SMALLEST)
    times = tf.zeros_like(pi[:, :1, 0])
    p, codes = times + 1, tf.zeros_like(times[..., tf.newaxis], tf.int32)[..., :0]
    for variable in range(pi.shape[1]):
        a = -tf.math.log(u[variable, :, : times.shape[1]]) / pi[:, variable, tf.newaxis]
        later = (a - tf.reduce_min(a, axis=-1, keepdims=True)) / p[..., tf.newaxis]
        extended = (
            times[..., tf.newaxis] + later,
            p[..., tf.newaxis] * pi[:, variable, tf.newaxis],
        )
        flat = [tf.reshape(v, [-1, times.shape[1] * n_categories]) for v in extended]
        order = tf.argsort(flat[0], axis=-1)[:, :k]
        times, p = (tf.gather(v, order, batch_dims=1) for v in flat)
        p = tf.maximum(p, SMALLEST)
        prefix = tf.gather(codes, order // n_categories, batch_dims=1)
        codes = tf.concat([prefix, (order % n_categories)[..., tf.newaxis]], axis=-1)
    return codes


def further_codes(code: tf.Tensor, pi: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Draw min(k, C^V) - 1 further codes without replacement after a code [N, V]: [N, k - 1, V].

    Other arguments are those of `first_codes`. Without the code, the order of the others is that
    of arrivals among them.
    """
    codes = first_codes(pi, u)
    n_codes = codes.shape[1]
    same = tf.reduce_all(codes == code[:, tf.newaxis], axis=-1)
    place = tf.where(same, n_codes, tf.range(n_codes))
    return tf.gather(codes, tf.argsort(place, axis=-1)[:, : n_codes - 1], batch_dims=1)


def log_set_probabilities(log_p: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return log h of {} [N], of each code [k, N], and of each pair of codes [k, k, N].

    The entry of a code with itself is log h of that code. Finite for finite log p, also if all of
    the probability is in the set.

    Args:
      log_p: [k, N] log probabilities of the codes, float64.
    """
    k = log_p.shape[0]
    outside = tf.math.log(tf.maximum(1 - tf.exp(tf.reduce_logsumexp(log_p, axis=0)), 0))
    by_size = {k: tf.zeros_like(log_p[:1])}
    for size in reversed(range(k)):
        sets, larger = (list(itertools.combinations(range(k), n)) for n in (size, size + 1))
        others = [[i for i in range(k) if i not in b] for b in sets]
        numbers = [
            [larger.index(tuple(sorted((*b, i)))) for i in missing]
            for b, missing in zip(sets, others, strict=True)
        ]
        logs = tf.gather(log_p, others)  # [sets, k - size, N]
        every = tf.broadcast_to(outside, tf.shape(logs[:, :1]))
        remaining = tf.reduce_logsumexp(tf.concat([logs, every], axis=1), axis=1)
        after = tf.gather(by_size[size + 1], numbers)
        by_size[size] = tf.reduce_logsumexp(logs + after, axis=1) - remaining
    pairs = list(itertools.combinations(range(k), 2))
    index = np.zeros([k, k], np.int32)
    for number, (i, j) in enumerate(pairs):
        index[i, j] = index[j, i] = number
    diagonal = tf.eye(k, dtype=tf.bool)[..., tf.newaxis]
    of_pairs = tf.where(diagonal, by_size[1], tf.gather(by_size[2], index))
    return by_size[0][0], by_size[1], of_pairs


def unordered(f: tf.Tensor, log_p: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return p(s) R(S, s), and f(s) minus its baseline: [k, N] each.

    Args:
      f: [k, N] values of the codes.
      log_p: [k, N] their log probabilities.
    """
    of_set, of_one, of_pair = log_set_probabilities(log_p)
    weight = tf.exp(log_p + of_one - of_set)
    others = tf.exp(log_p + of_pair - of_one[:, tf.newaxis])
    return weight, f - tf.einsum("sjn,jn->sn", others, f)
