"""All states of a model's latent variables, and exact gradients as sums over them.

    E_q f = sum_z q(z | x) f(x, z),    d E_q f = sum_z q(z | x) [ f d log q(z | x) + d log_joint ]
    E bound = sum_{z_1 ... z_K} q(z_1 | x) ... q(z_K | x) log 1/K sum_k exp f(x, z_k)

States are rolled out like samples, ROWS rows at a time, so that the memory does not grow with their
number.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rebar.core import bounds, families, gradients, samplers
from rebar.errors import RebarError
from rebar.types import Model, capability

MAX_STATES = 4096
"""Maximum number of states: 12 binary units in all, or 4 variables of 8 categories."""

MAX_TUPLES = 2**18
"""Maximum number of combinations of states of K samples."""

ROWS = 2048
"""Rows (states * images) per pass, at least one state of each image."""


class Exact(NamedTuple):
    """Exact expectation and its gradient.

    Attributes:
      value: [B] in nats.
      gradients: of the negative mean of `value`, aligned with model.trainable_variables.
    """

    value: tf.Tensor
    gradients: list


def count(model: Model) -> int:
    """Return the number of states of a model's latent variables."""
    return math.prod(map(families.n_states, families.shapes(model)))


def states_of(model: Model) -> tuple:
    """All states of a model's latent variables: [n_states, ...] per layer.

    Raises:
      RebarError: more than MAX_STATES states.
    """
    return all_states(families.shapes(model), model.compute_dtype)


def all_states(shapes: Sequence[Sequence[int]], dtype: Any = tf.float32) -> tuple:
    """All states of layers of these shapes: [n_states, *shape] per layer, first layer slowest.

    Args:
      shapes: (H,) of Bernoulli units, or (V, C) of V variables of C categories (one-hot).
      dtype: dtype of the states.

    Raises:
      RebarError: no layers, or more than MAX_STATES states.
    """
    if not shapes:
        raise RebarError("no discrete latent variables: nothing to sum over; use another estimator")
    counts = [families.n_states(shape) for shape in shapes]
    if math.prod(counts) > MAX_STATES:
        described = " and ".join(
            f"{shape[0]} latent units"
            if len(shape) == 1
            else f"{shape[0]} variables of {shape[1]} categories"
            for shape in shapes
        )
        raise RebarError(
            f"{described}: {math.prod(counts)} states are more than {MAX_STATES}; use fewer or "
            "narrower layers, e.g. n_units=(2, 2), or n_categories=8,n_latents=4"
        )
    index = np.indices(counts).reshape(len(counts), -1)
    layers = [families.states(shape, dtype) for shape in shapes]
    return tuple(tf.gather(layer, i) for layer, i in zip(layers, index, strict=True))


def elbo_and_gradient(model: Model, x: Any) -> Exact:
    """Exact E_q f per image x [B, D] and its gradient, the mean of every unbiased estimate.

    For an objective, x are its arguments, and the gradient is one loss, see `gradients.loss_of`; f
    is called once, because a loop cannot accumulate losses.

    Raises:
      RebarError: more than MAX_STATES states.
    """
    states = states_of(model)
    n_states = states[0].shape[0]
    if model.trainable_variables is gradients.EVERYTHING:
        return Exact(*_part(model, x, states, gradients.EVERYTHING))
    x = tf.cast(x, model.compute_dtype)
    batch = x.shape[0]
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
    return Exact(elbo, gradient)


def exact_elbo_and_gradient(model: Model, x: tf.Tensor) -> Exact:
    """Return `elbo_and_gradient`, in closed form if the model has `expected_objective`."""
    expected = capability(model, "expected_objective")
    if expected is None:
        return elbo_and_gradient(model, x)
    with tf.GradientTape() as tape:
        value = expected(tf.cast(x, model.compute_dtype))
        loss = -tf.reduce_mean(value)
    return Exact(value, gradients.gradient_or_zero(tape, loss, model.trainable_variables))


def bound_and_gradient(model: Model, x: tf.Tensor, n_samples: int) -> Exact:
    """Exact K-sample bound per image x [B, D] and its gradient; K = n_samples.

    The gradient includes that of the probabilities q(b_k | x). For K = 1 the bound is the ELBO.

    Raises:
      RebarError: K < 1, more than MAX_STATES states, or more than MAX_TUPLES combinations of K.
    """
    states = states_of(model)[0].shape[0]
    if n_samples < 1 or states**n_samples > MAX_TUPLES:
        raise RebarError(
            f"n_samples={n_samples} of {states} states each: K must be at least 1 and {states}^K "
            f"at most {MAX_TUPLES}; use fewer samples, or fewer or narrower layers"
        )
    index = np.stack(np.unravel_index(np.arange(states**n_samples), [states] * n_samples))

    with tf.GradientTape() as tape:
        f, log_q = (tf.gather(values, index) for values in _all_rows(model, x))
        bound = bounds.multi_sample(tf.reshape(f, [n_samples, -1]))
        p = tf.exp(tf.reduce_sum(log_q, axis=0))
        mean = tf.reduce_sum(p * tf.reshape(bound, [index.shape[1], -1]), axis=0)
        loss = -tf.reduce_mean(mean)
    return Exact(mean, gradients.gradient_or_zero(tape, loss, model.trainable_variables))


def log_marginal(model: Model, x: tf.Tensor) -> tf.Tensor:
    """log sum_b q(b | x) exp f(x, b) in nats, [B]: the limit of the multi-sample bound.

    It is log p(x), or log p(lower half | upper half) for a conditional model. Arguments and errors
    are those of `elbo_and_gradient`.
    """
    f, log_q = _all_rows(model, x)
    return tf.reduce_logsumexp(f + log_q, axis=0)


def _all_rows(model, x):
    """f and log q(b | x) at every state: [n_states, B] each."""
    x = tf.cast(x, model.compute_dtype)
    states = states_of(model)
    n_states = states[0].shape[0]
    rollout = model.rollout(
        x, samplers.fixed(tuple(tf.repeat(s, x.shape[0], axis=0) for s in states)), n_states
    )
    log_q = tf.add_n(list(rollout.log_q))
    return bounds.split_samples(rollout.objective, n_states), bounds.split_samples(log_q, n_states)


def _part(model, x, states, variables):
    """sum q f [B] over M states, [M, ...] per layer, and their part of the gradient."""
    size = states[0].shape[0]

    def sampler(layer, logits):
        batch = tf.shape(logits)[0] // size
        rows = tf.repeat(tf.cast(states[layer], logits.dtype), batch, axis=0)
        return tf.ensure_shape(rows, logits.shape)

    with tf.GradientTape() as tape:
        rollout = model.rollout(x, sampler, size)
    q = tf.exp(tf.add_n(list(rollout.log_q)))
    weighted = q * rollout.objective
    batch = tf.cast(tf.shape(q)[0] // size, q.dtype)
    # What an objective drops of f has mean zero over samples, not over rows of all states.
    followed = rollout.objective if capability(model, "omits_scores") else rollout.log_joint
    gradient = gradients.gradient_or_zero(
        tape,
        [*rollout.log_q, followed],
        variables,
        [*[-weighted / batch] * len(rollout.log_q), -q / batch],
    )
    return tf.reduce_sum(bounds.split_samples(weighted, size), axis=0), gradient


def _largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is at most `limit`."""
    return next(d for d in range(min(limit, number), 0, -1) if number % d == 0)
