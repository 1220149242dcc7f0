"""Likelihoods p(x | b): distributions of the pixels given the outputs of a model's last layer.

                 outputs             pixels modeled    log p(x | b), sum over pixels
    bernoulli    logits a            x in [0, 1]       x a - softplus(a)
    gaussian     means a             2 x - 1           -1/2 [log 2 pi v + (2 x - 1 - a)^2 / v]

The cross-entropy of "bernoulli" is a likelihood of binary images only. "gaussian" is for
non-binarized images: one trained variance per pixel, v = max(softplus(rho), FLOOR), rho initially
RHO. Its density is that of pixels in [-1, 1], not of x; pixels that are constant reach the floor
and add up to 2.5 nats each, hence bounds above 0. Source: the non-binarized experiments of Titsias
& Shi 2022 (arXiv 2111.05300) and Shi et al. 2022 (arXiv 2202.09497), in the authors' code.
"""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar.core import bernoulli, families
from rebar.errors import RebarError

FLOOR = 0.001
"""Smallest variance of a pixel."""

RHO = -0.5
"""Initial value of rho."""


def output_bias(mean: np.ndarray) -> np.ndarray:
    """Logit of the training mean [D], clipped to [.001, .999] (2017's train_bias)."""
    return -np.log(1 / np.clip(mean, 0.001, 0.999) - 1)


class Bernoulli:
    """Likelihood "bernoulli" of a belief network or, by cross-entropy, of a categorical VAE."""

    output_bias = staticmethod(output_bias)

    def modeled(self, x: tf.Tensor) -> tf.Tensor:
        """Return the pixels that are modeled, for x [..., D] in [0, 1]."""
        return x

    def log_prob(self, x: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """log p(x | b) in nats for x in [0, 1]: [..., D] -> [...]."""
        return bernoulli.log_prob(x, outputs)

    def of_pairs(self, x: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """`log_prob` of all pairs of x [B, D] and outputs [M, D]: [B, M]."""
        softplus = tf.reduce_sum(bernoulli.softplus(outputs), axis=-1)
        return tf.matmul(x, outputs, transpose_b=True) - softplus

    def mean(self, outputs: tf.Tensor) -> tf.Tensor:
        """Mean of the pixels in [0, 1], [..., D]."""
        return tf.sigmoid(outputs)


@keras.saving.register_keras_serializable("rebar")
class Gaussian(keras.layers.Layer):
    """Likelihood "gaussian" with the variances of n_pixels pixels; see the module."""

    def __init__(self, n_pixels, name="likelihood", **kwargs):
        super().__init__(name=name, **kwargs)
        self.n_pixels = n_pixels
        self.rho = self.add_weight((n_pixels,), keras.initializers.Constant(RHO), name="rho")
        self.built = True

    def output_bias(self, mean: np.ndarray) -> np.ndarray:
        """Return 0 for each pixel."""
        return np.zeros_like(mean)

    def modeled(self, x: tf.Tensor) -> tf.Tensor:
        """Return the pixels that are modeled, 2 x - 1, for x [..., D] in [0, 1]."""
        return 2 * x - 1

    def variance(self) -> tf.Tensor:
        """v [D]."""
        return tf.maximum(bernoulli.softplus(tf.convert_to_tensor(self.rho)), FLOOR)

    def log_prob(self, x: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """log p(2 x - 1 | b) in nats for x in [0, 1]: [..., D] -> [...]."""
        v = self.variance()
        squares = tf.reduce_sum(tf.square(self.modeled(x) - outputs) / v, axis=-1)
        return -0.5 * (squares + tf.reduce_sum(tf.math.log(2 * math.pi * v)))

    def of_pairs(self, x: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """`log_prob` of all pairs of x [B, D] and outputs [M, D]: [B, M]."""
        v = tf.cast(self.variance(), x.dtype)
        products = tf.matmul(self.modeled(x) / v, outputs, transpose_b=True)
        of_outputs = tf.reduce_sum(tf.square(outputs) / v, axis=-1)
        of_x = tf.reduce_sum(tf.square(self.modeled(x)) / v + tf.math.log(2 * math.pi * v), axis=-1)
        return products - 0.5 * (of_outputs + of_x[:, tf.newaxis])

    def spread(self, mean: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """`log_prob` at the mean of linear outputs b W, minus its mean over b: [N].

        It is 1/2 sum_d Var[(b W)_d] / v_d, see `families.linear_variance`.
        """
        return 0.5 * families.linear_variance(mean, kernel / tf.sqrt(self.variance()))

    def mean(self, outputs: tf.Tensor) -> tf.Tensor:
        """Mean of the pixels on the scale of x, clipped to [0, 1]; [..., D]."""
        return tf.clip_by_value((outputs + 1) / 2, 0, 1)

    def get_config(self):
        return {**super().get_config(), "n_pixels": self.n_pixels}


LIKELIHOODS = ("bernoulli", "gaussian")


def by_name(name: str, n_pixels: int, dtype: Any) -> Any:
    """Return the likelihood of a name for n_pixels pixels; RebarError for an unknown one."""
    if name not in LIKELIHOODS:
        raise RebarError(f"likelihood={name!r}: choose from {', '.join(LIKELIHOODS)}")
    return Bernoulli() if name == "bernoulli" else Gaussian(n_pixels, dtype=dtype)
