"""Gradients of the multi-sample bound L = log 1/K sum_k exp f_k (Burda et al. 2016).

With samples from q the gradient of E L has two parts: the scores, whose learning signals depend on
the estimator, and

    d L at fixed samples = sum_k w_k d f_k,    w = softmax of f over the example's K samples

f contains -log q. The mean of - sum_k w_k d log q_k is not zero, unlike in the gradient of the
ELBO, because w_k depends on the samples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from rebar.core import bounds
from rebar.core.gradients import gradient_or_zero, require_rank
from rebar.types import Rollout


class AtFixedSamples(NamedTuple):
    """d L at fixed samples, as cotangents of log_joint and log_q.

    Attributes:
      log_joint: [N] w.
      log_q: L x [N], of log q in f that is not in log_joint: -w for f = log p - log q, 0 where
        samples come from the model itself.
    """

    log_joint: tf.Tensor
    log_q: list


def at_fixed_samples(tape: tf.GradientTape, rollout: Rollout, n_samples: int) -> AtFixedSamples:
    """Return d L at fixed samples.

    For one sample w = 1 and the mean of d log q is zero, so its part is omitted and estimators of
    the bound equal those of the ELBO.

    Args:
      tape: tape that recorded `rollout`; persistent.
      rollout: at hard samples, K rows per example.
      n_samples: K.
    """
    f = bounds.split_samples(tf.stop_gradient(rollout.objective), n_samples)
    weights = tf.reshape(tf.nn.softmax(f, axis=0), [-1])
    if n_samples == 1:
        return AtFixedSamples(weights, [tf.zeros_like(weights) for _ in rollout.log_q])
    return AtFixedSamples(weights, [weights * d for d in log_q_derivatives(tape, rollout)])


def log_q_derivatives(tape: tf.GradientTape, rollout: Rollout) -> list:
    """L x [N], derivatives of the part of f that is not in log_joint with respect to log q.

    They are -1 for f = log p - log q, and 0 where samples come from the model itself.
    """
    ones = tf.ones_like(rollout.objective)
    return tape.gradient(
        [rollout.objective, rollout.log_joint],
        list(rollout.log_q),
        [ones, -ones],
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )


def score_gradient(
    tape: tf.GradientTape,
    rollout: Rollout,
    signal: tf.Tensor,
    n_samples: int,
    variables: Sequence,
) -> list:
    """- mean over examples of [ sum_k signal_k d log q_k  +  d L at fixed samples ].

    Args:
      tape: tape that recorded `rollout`; persistent.
      rollout: at hard samples, K rows per example, N in total.
      signal: [N] learning signals; no gradient flows through them.
      n_samples: K.
      variables: variables to differentiate with respect to.

    Returns:
      Gradients aligned with `variables`; zeros for unused ones.
    """
    require_rank(signal, 1, "the learning signal")
    fixed = at_fixed_samples(tape, rollout, n_samples)
    return mean_over_examples(
        tape,
        [*rollout.log_q, rollout.log_joint],
        [*(signal + cotangent for cotangent in fixed.log_q), fixed.log_joint],
        n_samples,
        variables,
    )


def mean_over_examples(
    tape: tf.GradientTape,
    targets: Sequence[tf.Tensor],
    cotangents: Sequence[tf.Tensor],
    n_samples: int,
    variables: Sequence,
) -> list:
    """- mean over examples of sum_k sum_i cotangent_i . d target_i.

    Args:
      tape: tape that recorded the targets.
      targets: [N] or [N, H], K rows per example.
      cotangents: of the same shapes, for ascent.
      n_samples: K.
      variables: variables to differentiate with respect to.
    """
    examples = tf.cast(tf.shape(targets[0])[0] // n_samples, targets[0].dtype)
    return gradient_or_zero(tape, targets, variables, [-c / examples for c in cotangents])
