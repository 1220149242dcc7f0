"""Samples with swapped noise, and their gradient: see `rebar.estimators.arsm`."""

import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from rebar.core import categorical


def chains(logits: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Return C (C - 1) / 2 samples [M, N, V, C], and the gradient as a function of f [1 + M, N].

    Args:
      logits: [N, V, C].
      u: [N, V, C] uniforms of the main chain.
    """
    e = categorical.exponentials(u)
    swapped, index = swaps(logits.shape[-1])
    noises = tf.gather(e, tf.constant(swapped), axis=-1)  # [N, V, M, C]
    noises = -tf.math.log(tf.transpose(noises, [2, 0, 1, 3]))
    w = e / tf.reduce_sum(e, axis=-1, keepdims=True)
    samples = categorical.hard_sample(logits, noises)
    return samples, lambda f: swap_gradient(tf.gather(f, index), w)


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
