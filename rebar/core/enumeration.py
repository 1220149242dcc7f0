"""All states of a model's latent variables, and exact gradients as sums over them.

    E_q f = sum_z q(z | x) f(x, z),    d E_q f = sum_z q(z | x) [ f d log q(z | x) + d log_joint ]

States are rolled out as if they were samples, some thousand rows at a time, so that the memory does
not grow with their number.
"""

import itertools
import math

import numpy as np
import tensorflow as tf

from rebar.core import gradients, samplers
from rebar.errors import RebarError

MAX_STATES = 4096
"""The most states that are enumerated: 12 binary units in all layers together, or 4 variables of 8
categories."""

ROWS = 2048
"""Rows (states * images) of a pass, at least one state of each image."""


def count(model) -> int:
    """How many states the latent variables of a model have."""
    if hasattr(model, "latent_shape"):
        n_latents, n_categories = model.latent_shape
        return n_categories**n_latents
    return 2 ** sum(model.n_units)


def all_states(n_units, dtype=tf.float32) -> tuple:
    """Every state of binary latent units: L x [n_states, H] of zeros and ones.

    Args:
      n_units: widths of the L layers.
      dtype: of the result.

    Raises:
      RebarError: there are more than MAX_STATES.
    """
    units = sum(n_units)
    if 2**units > MAX_STATES:
        raise RebarError(
            f"cannot enumerate {units} latent units: 2^{units} states are more than {MAX_STATES}; "
            "use fewer or narrower layers, e.g. n_units=(2, 2)"
        )
    states = np.array(list(itertools.product((0, 1), repeat=units)))
    parts = np.split(states, np.cumsum(n_units)[:-1], axis=1)
    return tuple(tf.constant(part, dtype) for part in parts)


def all_codes(latent_shape, dtype=tf.float32) -> tf.Tensor:
    """Every state of L variables of C categories as one-hot vectors: [C^L, L, C].

    Args:
      latent_shape: (L, C).
      dtype: of the result.

    Raises:
      RebarError: there are more than MAX_STATES.
    """
    n_latents, n_categories = latent_shape
    if n_categories**n_latents > MAX_STATES:
        raise RebarError(
            f"cannot enumerate {n_latents} variables of {n_categories} categories: "
            f"{n_categories}^{n_latents} codes are more than {MAX_STATES}; use fewer of them, e.g. "
            "n_categories=8,n_latents=4"
        )
    codes = np.array(list(itertools.product(range(n_categories), repeat=n_latents)))
    return tf.one_hot(codes, n_categories, dtype=dtype)


def states_of(model) -> tuple:
    """Every state of a model's latent variables, a tensor [n_states, ...] a layer.

    Raises:
      RebarError: there are more than MAX_STATES.
    """
    if hasattr(model, "latent_shape"):
        return (all_codes(model.latent_shape, model.compute_dtype),)
    return all_states(model.n_units, model.compute_dtype)


def elbo_and_gradient(model, x) -> tuple:
    """The exact E_q f of each image and the gradient that unbiased estimators have as their mean.

    Args:
      model: see `rebar.types.Model`.
      x: [B, D] in the model's type.

    Returns:
      [B] in nats; gradients of -mean_B E_q f, aligned with model.trainable_variables.

    Raises:
      RebarError: there are more than MAX_STATES states.
    """
    states = states_of(model)
    n_states, batch = states[0].shape[0], x.shape[0]
    size = _largest_divisor(n_states, max(1, ROWS // batch))
    parts = [tf.reshape(s, [-1, size, *s.shape[1:]]) for s in states]
    variables = model.trainable_variables

    def body(i, elbo, total):
        part, gradient = _part(model, x, [p[i] for p in parts], variables)
        return i + 1, elbo + part, [a + b for a, b in zip(total, gradient, strict=True)]

    start = (
        tf.constant(0),
        tf.zeros([batch], x.dtype),
        [tf.zeros(v.shape, v.dtype) for v in variables],
    )
    _, elbo, gradient = tf.while_loop(
        lambda i, *_: i < n_states // size, body, start, parallel_iterations=1
    )
    return elbo, gradient


def _part(model, x, states, variables):
    """sum q f [B] over some states, [M, ...] a layer, and their part of the gradient."""
    size, batch = states[0].shape[0], x.shape[0]
    rows = tuple(tf.repeat(s, batch, axis=0) for s in states)
    with tf.GradientTape() as tape:
        rollout = model.rollout(x, samplers.given(rows), size)
    q = tf.exp(tf.add_n(list(rollout.log_q)))
    weighted = q * rollout.objective
    gradient = gradients.gradient_or_zero(
        tape,
        [*rollout.log_q, rollout.log_joint],
        variables,
        [*[-weighted / batch] * len(rollout.log_q), -q / batch],
    )
    return tf.reduce_sum(tf.reshape(weighted, [size, batch]), axis=0), gradient


def _largest_divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is at most `most`."""
    return next(d for d in range(min(most, number), 0, -1) if math.gcd(number, d) == d)
