"""Exact expectations for tiny models: sums over all states of the latent units.

    ELBO(x) = sum_b q(b | x) f(x, b),    q(b | x) = exp sum_l log q(b_l | b_{l-1})

All states are rolled out as if they were samples, so that any model with a `rollout` can be
enumerated. It is the oracle of the tests of unbiasedness, and of use to whoever wants the bias
and variance of an estimator on a toy problem.
"""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rebar.core import bounds, samplers
from rebar.core.gradients import gradient_or_zero
from rebar.errors import RebarError

MAX_STATES = 4096
"""The most states that are enumerated: 12 latent units in all layers together."""


class Exact(NamedTuple):
    """Expectations without any noise.

    Attributes:
      elbo: [B] E_q f in nats.
      gradients: aligned with model.trainable_variables, of -mean_B E_q f.
    """

    elbo: tf.Tensor
    gradients: list


def all_states(n_units, dtype=tf.float32) -> tuple:
    """Every state of the latent units: L x [n_states, H] of zeros and ones.

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


def elbo_and_gradient(model, x) -> Exact:
    """The exact ELBO and the gradient that unbiased estimators have as their mean.

    The gradient follows the probabilities q(b | x) as well as f.

    Args:
      model: see `rebar.types.Model`; its widths `n_units` count too.
      x: [B, D] in {0, 1}.

    Raises:
      RebarError: there are more than MAX_STATES states.
    """
    with tf.GradientTape() as tape:
        f, log_q = _all_rows(model, x)
        elbo = tf.reduce_sum(tf.exp(log_q) * f, axis=0)
        loss = -tf.reduce_mean(elbo)
    return Exact(elbo, gradient_or_zero(tape, loss, model.trainable_variables))


def log_marginal(model, x) -> tf.Tensor:
    """log sum_b q(b | x) exp f(x, b) in nats, [B]: what the multi-sample bound tends to.

    That is log p(x), or log p(lower half | upper half) for a conditional model. Arguments and
    errors are those of `elbo_and_gradient`.
    """
    f, log_q = _all_rows(model, x)
    return tf.reduce_logsumexp(f + log_q, axis=0)


def _all_rows(model, x):
    """f and log q(b | x) at every state: [n_states, B] each."""
    x = tf.cast(x, model.compute_dtype)
    states = all_states(model.n_units, model.compute_dtype)
    n_states = states[0].shape[0]
    rollout = model.rollout(
        x, samplers.given(tuple(tf.repeat(s, x.shape[0], axis=0) for s in states)), n_states
    )
    log_q = tf.add_n(list(rollout.log_q))
    return bounds.split_samples(rollout.objective, n_states), bounds.split_samples(log_q, n_states)
