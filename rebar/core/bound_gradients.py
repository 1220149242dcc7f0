"""Gradients of the multi-sample bound L = log 1/K sum_k exp f_k (Burda et al. 2016).

With samples from q the gradient of E L has two parts: the scores, whose learning signals are what
estimators differ in, and

    d L at fixed samples = sum_k w_k d f_k,    w = softmax of f over the example's K samples

f has - log q in it. The mean of its part - sum_k w_k d log q_k is not zero as it is in the ELBO's
gradient, where all w_k are constants: w_k depends on the sample.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from rebar.core import bounds
from rebar.core.gradients import gradient_or_zero, require_rank
from rebar.types import Rollout


class AtFixedSamples(NamedTuple):
    """d L at fixed samples, as cotangents of what it goes through.

    Attributes:
      log_joint: [N] w.
      log_q: L x [N], -w where f has - log q in it, 0 where samples come from the model itself.
    """

    log_joint: tf.Tensor
    log_q: list


def at_fixed_samples(tape: tf.GradientTape, rollout: Rollout, n_samples: int) -> AtFixedSamples:
    """d L at fixed samples.

    For one sample L = f and w = 1, the mean of d log q is zero and its part is left out, so that
    estimators of the bound are then those of the ELBO.

    Args:
      tape: that recorded `rollout`; persistent.
      rollout: at hard samples, K rows an example.
      n_samples: K.
    """
    f = bounds.split_samples(tf.stop_gradient(rollout.objective), n_samples)
    weights = tf.reshape(tf.nn.softmax(f, axis=0), [-1])
    if n_samples == 1:
        return AtFixedSamples(weights, [tf.zeros_like(weights) for _ in rollout.log_q])
    return AtFixedSamples(
        weights,
        tape.gradient(
            rollout.objective,
            list(rollout.log_q),
            weights,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        ),
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
      tape: that recorded `rollout`; persistent.
      rollout: at hard samples, K rows an example, N in all.
      signal: [N] learning signals; no gradient flows through them.
      n_samples: K.
      variables: what to differentiate.

    Returns:
      Gradients aligned with `variables`, zeros where nothing depends on one.
    """
    require_rank(signal, 1, "the learning signal")
    fixed = at_fixed_samples(tape, rollout, n_samples)
    return mean_over_examples(
        tape,
        [*rollout.log_q, rollout.log_joint],
        [*(signal + own for own in fixed.log_q), fixed.log_joint],
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
      tape: that recorded the targets.
      targets: [N] or [N, H], K rows an example.
      cotangents: of the same shapes, for ascent.
      n_samples: K.
      variables: what to differentiate.
    """
    examples = tf.cast(tf.shape(targets[0])[0] // n_samples, targets[0].dtype)
    return gradient_or_zero(tape, targets, variables, [-c / examples for c in cotangents])
