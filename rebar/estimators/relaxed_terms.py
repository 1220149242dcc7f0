"""Terms of the control variates of REBAR and RELAX at relaxed samples.

Term k of the control variate is a function F_k(theta, z) of the noise z_l of the layers from k on.
The gradient contains it with unconditional noise, and with the noise of the layers l in C_k
conditional on the hard sample b_l; `docs/design.md` shows that their sum is one backward pass
through the hard logits a_l with the cotangents

    kappa_l = F_l e_l + R_l' sum_{k: l in C_k} dF_k/dz_l,    e_l = d log q_l / d a_l

with R_l the derivative of the noise given b_l with respect to a_l, `families.coupling`, and z_l the
noise of a_l (`families.noise`, logit u_l for Bernoulli units); F_0 for every l if k = 0 is the only
term.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from rebar.core import families, gradients, logit_gradients, samplers
from rebar.noise import Noise
from rebar.types import Model, Rollout


class Terms(NamedTuple):
    """Terms of a control variate, or their derivatives with respect to a scalar.

    Attributes:
      values: k -> [N] F_k.
      derivatives: k -> l -> [N, ...] dF_k/dz_l for the layers l in C_k.
    """

    values: dict
    derivatives: dict


def scores(hard: Rollout, active: Sequence[int]) -> list:
    """e_l = d log q_l / d logits_l at the hard samples: L x [N, ...]; 0 for layers not active."""
    pairs = enumerate(zip(hard.samples, hard.logits, strict=True))
    return [
        families.of(a).score(b, a) if layer in active else tf.zeros_like(a)
        for layer, (b, a) in pairs
    ]


def couplings(hard: Rollout, noise: Noise) -> list:
    """Functions g -> R_l' g of [N, ...], one per layer."""
    return [
        families.of(a).coupling(b, families.uniforms_at(noise, layer, a), a)
        for layer, (b, a) in enumerate(zip(hard.samples, hard.logits, strict=True))
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
      muprop_relaxation: see `rebar.core.families`.
      with_temperature: return derivatives w.r.t. the log temperature.

    Returns:
      `Terms`, and their derivatives with respect to log T or None.
    """
    z = [families.noise_at(noise, layer, a) for layer, a in enumerate(hard.logits)]
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


def cotangents(terms: Terms, scores: Sequence[tf.Tensor], couplings: Sequence[Callable]) -> list:
    """kappa_l of the hard logits, before the mean over rows: L x [N, ...]."""
    kappas = []
    for i, (e, r) in enumerate(zip(scores, couplings, strict=True)):
        derivatives = [d[i] for d in terms.derivatives.values() if i in d]
        if not derivatives:  # a layer without gradients
            kappas.append(tf.zeros_like(e))
            continue
        value = terms.values.get(i, terms.values.get(0))
        kappas.append(logit_gradients.relaxed_control(value, tf.add_n(derivatives), e, r))
    return kappas
