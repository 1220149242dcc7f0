"""Bounds on the log likelihood from samples of f = log p(x, b) - log q(b | x)."""

import math

import tensorflow as tf


def split_samples(values: tf.Tensor, n_samples: int) -> tf.Tensor:
    """Values a row [N], sample-major, to [S, B]."""
    values.shape.assert_has_rank(1)
    return tf.reshape(values, [n_samples, -1])


def multi_sample(f: tf.Tensor) -> tf.Tensor:
    """log mean_s exp f_s, in nats: [S, B] -> [B]. The K-sample bound of Burda et al. 2016."""
    f.shape.assert_has_rank(2)
    # Not tf.cast, which would make the logarithm a float32 first.
    return tf.reduce_logsumexp(f, axis=0) - tf.constant(math.log(f.shape[0]), f.dtype)
