"""CatExact: the gradient without any noise of the latents, by enumerating all codes.

    g = - mean_x sum_z q(z | x) [ f(x, z) d log q(z | x)  +  d f at fixed z ]

Exact for d E_q f. C^L evaluations of f an image, so it is for small codes: at most MAX_CODES, e.g.
4 variables of 8 categories, where a step takes 4096 times the work of a sampled one. Learns
nothing. The objective that it returns is the exact ELBO of each image.
"""

import itertools

import numpy as np
import tensorflow as tf

from rebar.core import gradients, samplers
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.types import Estimate

MAX_CODES = 4096
"""The most codes C^L that are enumerated."""

ROWS = 2048
"""Rows (codes * images) of a pass, at least one code of each image."""


def all_codes(latent_shape, dtype=tf.float32) -> tf.Tensor:
    """Every state of L variables of C categories as one-hot vectors: [C^L, L, C].

    Args:
      latent_shape: (L, C).
      dtype: of the result.

    Raises:
      RebarError: there are more than MAX_CODES.
    """
    n_latents, n_categories = latent_shape
    if n_categories**n_latents > MAX_CODES:
        raise RebarError(
            f"cannot enumerate {n_latents} variables of {n_categories} categories: "
            f"{n_categories}^{n_latents} codes are more than {MAX_CODES}; use fewer of them, e.g. "
            "n_categories=8,n_latents=4"
        )
    codes = np.array(list(itertools.product(range(n_categories), repeat=n_latents)))
    return tf.one_hot(codes, n_categories, dtype=dtype)


class Enumerated(Estimator):
    """See the module's docstring. Metrics: none."""

    unbiased = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._codes = 1

    def setup(self, model, seed=0):
        """Refuse what has too many codes."""
        del seed
        self._codes = all_codes(model.latent_shape).shape[0]

    def evaluations(self, n_layer):
        """Of every code."""
        return self._codes

    def estimate(self, model, x, noise):
        """Compute the gradient; x [B, D]. The noise is not used."""
        codes = all_codes(model.latent_shape, x.dtype)
        size = max(1, min(ROWS // x.shape[0], codes.shape[0]))
        while codes.shape[0] % size:
            size -= 1
        parts = tf.reshape(codes, [-1, size, *model.latent_shape])
        variables = model.trainable_variables

        def body(i, elbo, total):
            part, gradient = _part(model, x, parts[i])
            return i + 1, elbo + part, [a + b for a, b in zip(total, gradient, strict=True)]

        start = (
            tf.constant(0),
            tf.zeros([x.shape[0]], x.dtype),
            [tf.zeros(v.shape, v.dtype) for v in variables],
        )
        _, elbo, gradient = tf.while_loop(
            lambda i, *_: i < parts.shape[0], body, start, parallel_iterations=1
        )
        return Estimate(gradient, [], elbo, {})


def _part(model, x, codes):
    """sum q f [B] over some codes [M, L, C], and their part of the gradient."""
    count, batch = codes.shape[0], x.shape[0]
    rows = tf.repeat(codes, batch, axis=0)
    with tf.GradientTape() as tape:
        rollout = model.rollout(x, samplers.given((rows,)), count)
        (log_q,) = rollout.log_q
    weighted = tf.exp(log_q) * rollout.objective
    gradient = gradients.gradient_or_zero(
        tape,
        [log_q, rollout.log_joint],
        model.trainable_variables,
        [-weighted / batch, -tf.exp(log_q) / batch],
    )
    return tf.reduce_sum(tf.reshape(weighted, [count, batch]), axis=0), gradient
