"""Local expectations of categorical variables: see `rebar.estimators.sum_and_sample`."""

from collections.abc import Callable

import tensorflow as tf

from rebar.core import categorical


def chains(
    z: tf.Tensor, logits: tf.Tensor, gumbels: tf.Tensor, count: int
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Return neighbors of a sample, and the gradient as a function of the values of f.

    Args:
      z: [N, V, C] one-hot, V and C static.
      logits: [N, V, C].
      gumbels: [N, V, C] noise of which z is the sample.
      count: the number k of categories that are summed, from 1 to C - 1.

    Returns:
      [V k, N, V, C], which differ from z in one variable each, and f [1 + V k, N] at z and at them
      -> gradient [N, V, C], for ascent.
    """
    n_variables, n_categories = z.shape[1:]
    pi = tf.nn.softmax(logits)
    summed = tf.math.top_k(logits, count).indices  # [N, V, k]
    top = tf.reduce_sum(tf.one_hot(summed, n_categories, dtype=z.dtype), axis=2)
    sampled = best_of_rest(logits, gumbels, top)  # r
    # The summed categories, with r instead of that of z.
    current = tf.argmax(z, axis=-1, output_type=tf.int32)[..., tf.newaxis]
    others = tf.where(summed == current, sampled[..., tf.newaxis], summed)
    others = tf.one_hot(others, n_categories, dtype=z.dtype)  # [N, V, k, C]

    def gradient(f):
        of_others = tf.reshape(f[1:], [n_variables, count, -1])
        f = z * f[0][:, tf.newaxis, tf.newaxis] + tf.einsum("vkn,nvkc->nvc", of_others, others)
        weights = top * pi
        b = dot(weights, f) / tf.reduce_sum(weights, axis=-1, keepdims=True)
        of_rest = tf.reduce_sum((1 - top) * pi, axis=-1, keepdims=True)
        weights += of_rest * tf.one_hot(sampled, n_categories, dtype=z.dtype)
        return weights * (f - b) - pi * dot(weights, f - b)

    return with_others(z, others), gradient


def best_of_rest(logits: tf.Tensor, gumbels: tf.Tensor, top: tf.Tensor) -> tf.Tensor:
    """Category [N, V] of the largest logit plus noise among those where `top` is 0."""
    perturbed = categorical.perturbed(logits, gumbels)
    lowest = tf.constant(perturbed.dtype.min, perturbed.dtype)
    return tf.argmax(tf.where(top > 0, lowest, perturbed), axis=-1, output_type=tf.int32)


def with_others(z: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Return z [N, V, C] with one variable at a time in each of k others [N, V, k, C].

    Returns:
      [V k, N, V, C], the variable that differs slowest.
    """
    change = tf.transpose(others - z[:, :, tf.newaxis], [1, 2, 0, 3])  # [V, k, N, C]
    which = tf.eye(z.shape[1], dtype=z.dtype)[:, tf.newaxis, tf.newaxis, :, tf.newaxis]
    states = z + which * change[:, :, :, tf.newaxis]
    return tf.reshape(states, [z.shape[1] * others.shape[2], -1, *z.shape[1:]])


def dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """<a, b> per variable, [N, V, 1]."""
    return tf.reduce_sum(a * b, axis=-1, keepdims=True)
