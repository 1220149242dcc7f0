"""Terms of the control variates of REBAR and RELAX at relaxed samples.

Term k of the control variate is a function F_k(theta, z) of the noise z_l = logit u_l of the layers
from k on. The gradient contains it with unconditional noise, and with the noise of the layers l in
C_k conditional on the hard sample b_l; `docs/design.md` shows that their sum is one backward pass
through the hard logits a_l with the cotangents

    kappa_l = F_l e_l + r_l * sum_{k: l in C_k} dF_k/dz_l,    e_l = b_l - sigmoid(a_l)

r_l = `bernoulli.coupling_derivative`; F_0 for every l if k = 0 is the only term.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from rebar.core import bernoulli, gradients, samplers
from rebar.noise import Noise
from rebar.types import Model, Rollout


class Terms(NamedTuple):
    """Terms of a control variate, or their derivatives with respect to a scalar.

    Attributes:
      values: k -> [N] F_k.
      derivatives: k -> l -> [N, H] dF_k/dz_l for the layers l in C_k.
    """

    values: dict
    derivatives: dict


def scores(hard: Rollout) -> list:
    """e_l = d log q_l / d logits_l at the hard samples: L x [N, H]."""
    return [b - tf.sigmoid(a) for b, a in zip(hard.samples, hard.logits, strict=True)]


def couplings(hard: Rollout, noise: Noise) -> list:
    """r_l, d noise / d logits of layer l given its hard sample: L x [N, H]."""
    return [
        bernoulli.coupling_derivative(b, u, a)
        for b, u, a in zip(hard.samples, noise.uniforms, hard.logits, strict=True)
    ]


def relaxed_objectives(
    model: Model,
    x: tf.Tensor,
    noise: Noise,
    hard: Rollout,
    coupled: Mapping[int, Sequence[int]],
    log_temperature: tf.Tensor,
    muprop_relaxation: bool,
    with_temperature: bool,
) -> tuple:
    """F_k = f at the sample that is hard under layer k and relaxed from k on.

    Args:
      model, x, noise, hard: hard rollout of the same noise.
      coupled: k -> C_k.
      log_temperature: scalar.
      muprop_relaxation: see `bernoulli.relaxed_sample`.
      with_temperature: return derivatives w.r.t. the log temperature.

    Returns:
      `Terms`, and their derivatives with respect to log T or None.
    """
    z = [bernoulli.logistic(u) for u in noise.uniforms]
    values, derivatives = {}, {}
    with tf.GradientTape(watch_accessed_variables=False) as temperature_tape:
        temperature_tape.watch(log_temperature)
        temperature = tf.exp(log_temperature)
        for k, layers in coupled.items():
            # Copies, because a tape adds up the derivatives of all rollouts.
            copies = [tf.identity(v) for v in z]
            sampler = samplers.relaxed(copies, temperature, muprop_relaxation, k, hard.samples)
            watched = [copies[i] for i in layers]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(watched)
                values[k] = model.rollout(x, sampler, noise.n_samples).objective
            derivatives[k] = dict(zip(layers, tape.gradient(values[k], watched), strict=True))
    terms = Terms(values, derivatives)
    if not with_temperature:
        return terms, None
    flat = tf.nest.flatten(terms)

    def pullback(cotangents):
        return [temperature_tape.gradient(flat, log_temperature, cotangents)]

    tangents = gradients.transpose(pullback, flat, [tf.ones_like(log_temperature)])
    return terms, tf.nest.pack_sequence_as(terms, tangents)


def cotangents(terms: Terms, scores: Sequence[tf.Tensor], couplings: Sequence[tf.Tensor]) -> list:
    """kappa_l of the hard logits, before the mean over rows: L x [N, H]."""
    return [
        terms.values.get(i, terms.values[0])[:, tf.newaxis] * e
        + r * tf.add_n([d[i] for d in terms.derivatives.values() if i in d])
        for i, (e, r) in enumerate(zip(scores, couplings, strict=True))
    ]


def model_gradient(
    tape: tf.GradientTape, hard: Rollout, model: Model, of_q: Sequence[tf.Tensor]
) -> list:
    """- mean_n d log_joint + of_q, aligned with model.trainable_variables.

    Args:
      tape: tape that recorded `hard`.
      of_q: gradients aligned with model.inference_variables.
    """
    rows = tf.cast(tf.shape(hard.objective)[0], hard.objective.dtype)
    variables = model.trainable_variables
    direct = gradients.gradient_or_zero(
        tape, hard.log_joint, variables, -tf.ones_like(hard.log_joint) / rows
    )
    by_id = dict(zip(map(id, model.inference_variables), of_q, strict=True))
    return [
        value + by_id[id(v)] if id(v) in by_id else value
        for v, value in zip(variables, direct, strict=True)
    ]
