"""Exact expectations for tiny models: sums over all states of the latent units.

    ELBO(x) = sum_b q(b | x) f(x, b),    q(b | x) = exp sum_l log q(b_l | b_{l-1})
    bound(x) = sum_{b_1 ... b_K} q(b_1 | x) ... q(b_K | x) log 1/K sum_k exp f(x, b_k)

All states are rolled out as if they were samples, so that any model with a `rollout` can be
enumerated. It is the oracle of the tests of unbiasedness, and of use to whoever wants the bias
and variance of an estimator on a toy problem.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rebar.core import bounds, samplers
from rebar.core.enumeration import MAX_STATES, all_states, states_of
from rebar.core.gradients import gradient_or_zero
from rebar.errors import RebarError

__all__ = [
    "MAX_STATES",
    "MAX_TUPLES",
    "Exact",
    "ExactBound",
    "all_states",
    "bound_and_gradient",
    "elbo_and_gradient",
    "log_marginal",
]

MAX_TUPLES = 2**18
"""The most combinations of states of K samples that are enumerated."""


class Exact(NamedTuple):
    """Expectations without any noise.

    Attributes:
      elbo: [B] E_q f in nats.
      gradients: aligned with model.trainable_variables, of -mean_B E_q f.
    """

    elbo: tf.Tensor
    gradients: list


class ExactBound(NamedTuple):
    """Expectations of the K-sample bound without any noise.

    Attributes:
      bound: [B] E L in nats, L = log 1/K sum_k exp f_k.
      gradients: aligned with model.trainable_variables, of -mean_B E L.
    """

    bound: tf.Tensor
    gradients: list


def elbo_and_gradient(model, x) -> Exact:
    """The exact ELBO and the gradient that unbiased estimators have as their mean.

    The gradient follows the probabilities q(b | x) as well as f.

    Args:
      model: see `rebar.types.Model`; its widths `n_units` count too.
      x: [B, D] in {0, 1}.

    Raises:
      RebarError: there are more than MAX_STATES states.
    """
    return Exact(*_mean_and_gradient(model, lambda: _all_rows(model, x)))


def bound_and_gradient(model, x, n_samples: int) -> ExactBound:
    """The exact K-sample bound and the gradient that its unbiased estimators have as their mean.

    The gradient follows the probabilities q(b_k | x) of all samples as well as the bound.

    Args:
      model, x: see `elbo_and_gradient`.
      n_samples: K; for 1 the bound is the ELBO.

    Raises:
      RebarError: K < 1, more than MAX_STATES states, or more than MAX_TUPLES combinations of K.
    """
    states = states_of(model)[0].shape[0]
    if n_samples < 1 or states**n_samples > MAX_TUPLES:
        raise RebarError(
            f"cannot enumerate n_samples={n_samples} of {states} states each: K must be at least 1 "
            f"and {states}^K at most {MAX_TUPLES}; use fewer samples, or fewer or narrower layers"
        )
    index = np.stack(np.unravel_index(np.arange(states**n_samples), [states] * n_samples))

    def rows():
        f, log_q = (tf.gather(values, index) for values in _all_rows(model, x))
        bound = bounds.multi_sample(tf.reshape(f, [n_samples, -1]))
        return tf.reshape(bound, [index.shape[1], -1]), tf.reduce_sum(log_q, axis=0)

    return ExactBound(*_mean_and_gradient(model, rows))


def log_marginal(model, x) -> tf.Tensor:
    """log sum_b q(b | x) exp f(x, b) in nats, [B]: what the multi-sample bound tends to.

    That is log p(x), or log p(lower half | upper half) for a conditional model. Arguments and
    errors are those of `elbo_and_gradient`.
    """
    f, log_q = _all_rows(model, x)
    return tf.reduce_logsumexp(f + log_q, axis=0)


def _mean_and_gradient(model, rows):
    """sum p v [B] over all outcomes, and the gradient of minus its mean over examples.

    Args:
      rows: () -> values v and log p, [n_outcomes, B] each.
    """
    with tf.GradientTape() as tape:
        values, log_p = rows()
        mean = tf.reduce_sum(tf.exp(log_p) * values, axis=0)
        loss = -tf.reduce_mean(mean)
    return mean, gradient_or_zero(tape, loss, model.trainable_variables)


def _all_rows(model, x):
    """f and log q(b | x) at every state: [n_states, B] each."""
    x = tf.cast(x, model.compute_dtype)
    states = states_of(model)
    n_states = states[0].shape[0]
    rollout = model.rollout(
        x, samplers.given(tuple(tf.repeat(s, x.shape[0], axis=0) for s in states)), n_states
    )
    log_q = tf.add_n(list(rollout.log_q))
    return bounds.split_samples(rollout.objective, n_states), bounds.split_samples(log_q, n_states)
