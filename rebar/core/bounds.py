"""Bounds on the log likelihood from samples of f = log p(x, b) - log q(b | x)."""

import math

import tensorflow as tf

from rebar.core.gradients import require_rank


def by_sample(values: tf.Tensor, n_samples: int) -> tf.Tensor:
    """Reshape rows [N, ...], sample-major, to [S, B, ...]."""
    return tf.reshape(values, [n_samples, -1, *values.shape[1:]])


def split_samples(values: tf.Tensor, n_samples: int) -> tf.Tensor:
    """Reshape per-row values [N], sample-major, to [S, B]."""
    require_rank(values, 1, "the objective f")
    return by_sample(values, n_samples)


def multi_sample(f: tf.Tensor) -> tf.Tensor:
    """K-sample bound log mean_s exp f_s in nats, [S, B] -> [B]. Burda et al. 2016."""
    require_rank(f, 2, "f")
    # tf.cast would round the logarithm to float32 first.
    return tf.reduce_logsumexp(f, axis=0) - tf.constant(math.log(f.shape[0]), f.dtype)
