"""REBAR in the form of the paper, a readable reference for `rebar.py`.

Coupled rollouts, and reverse-over-reverse gradients of mean g^2; several times slower. With
z = logit u (or -log(-log u)) and f at samples that are hard under layer k and relaxed from k on,

    S_k = f(relaxed with noise u),    S~_k = f(relaxed with noise v at the coupled layers)
    v = u' + (1 - u') w if b = 1, u' w if b = 0,    u' = sigmoid(-logits on the hard path)
    (Bernoulli; for categorical layers see `_couple_categories`)
    g = - mean [ (f(b) - c) d log q + d log p ]
        + eta * mean sum_k [ S_k d log q_k - d S_k + d S~_k ]

with w constant and such that v = u. Without `quadratic` there is one term, k = 0, with d log q of
all layers, and the noise of all layers is coupled. Learning signals are cotangents of
`tape.gradient`, so an outer tape also differentiates them w.r.t. the temperature.

Source: Tucker et al. 2017 (arXiv 1703.07370), equations 6-10 and section 3.2-3.3.
"""

import math
from typing import Any

import tensorflow as tf

from rebar.core.bernoulli import logistic
from rebar.estimators.base import Estimator
from rebar.noise import Noise
from rebar.types import Model


def perturbation(u: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """z, shaped like the logits, from uniforms [N, width]: logit u, or -log(-log u)."""
    if logits.shape.rank == 2:
        return logistic(u)
    return -tf.math.log(-tf.math.log(tf.reshape(u, tf.shape(logits))))


def harden(logits: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Hard samples from uniforms, constants for tapes."""
    a = tf.stop_gradient(logits) + perturbation(u, logits)
    if logits.shape.rank == 2:
        return tf.cast(a > 0, logits.dtype)
    return tf.one_hot(tf.argmax(a, axis=-1), logits.shape[-1], dtype=logits.dtype)


def couple(u: tf.Tensor, b: tf.Tensor, logits: tf.Tensor, w: Any = None) -> tf.Tensor:
    """Uniform v conditional on the sample b, a function of the logits; [N, width].

    Args:
      u: uniforms of b, [N, width].
      b, logits: hard samples and their logits.
      w: uniforms of v, shaped like u; None for those with v = u.
    """
    if logits.shape.rank == 3:
        return _couple_categories(u, b, logits, w)
    threshold = tf.sigmoid(-logits)
    if w is None:
        w = tf.where(b == 1, (u - threshold) / (1 - threshold), u / threshold)
    w = tf.stop_gradient(w)
    return tf.where(b == 1, threshold + (1 - threshold) * w, threshold * w)


def _couple_categories(u, b, logits, w):
    """`couple` for perturbed logits c = logits + G (Maddison & Tarlow 2017).

    c_k = log Z - log(-log w_k) at the sample k, and elsewhere
    c_i = -log( -log w_i / exp(logits_i) + exp(-c_k) ).
    """

    def at_sample(values):
        return tf.reduce_sum(b * values, axis=-1, keepdims=True)

    log_z = tf.reduce_logsumexp(logits, axis=-1, keepdims=True)
    if w is None:
        c = logits + perturbation(u, logits)
        top = tf.exp(log_z - at_sample(c))
        others = tf.exp(logits) * (tf.exp(-c) - tf.exp(-at_sample(c)))
        e = tf.where(b == 1, top, others)
    else:
        e = -tf.math.log(tf.reshape(w, tf.shape(logits)))
    e = tf.stop_gradient(e)  # -log w
    top = log_z - tf.math.log(at_sample(e))
    others = -tf.math.log(e / tf.exp(logits) + tf.exp(-top))
    gumbels = tf.where(b == 1, top, others) - logits
    return tf.reshape(tf.exp(-tf.exp(-gumbels)), tf.shape(u))


def relax(
    logits: tf.Tensor, noise: tf.Tensor, temperature: tf.Tensor, muprop_relaxation: bool
) -> tf.Tensor:
    """Relaxed samples from uniforms `noise`: in (0, 1), or on the simplex."""
    correction = logits * temperature / (temperature + 1) if muprop_relaxation else 0
    a = (logits + perturbation(noise, logits)) / temperature + correction
    return tf.sigmoid(a) if logits.shape.rank == 2 else tf.nn.softmax(a)


def gradient(
    estimator: Estimator,
    model: Model,
    x: tf.Tensor,
    noise: Noise,
    log_temperature: tf.Tensor,
    eta: tf.Tensor,
    baseline: tf.Tensor,
) -> list:
    """g, aligned with the model's variables; differentiable w.r.t. the last three arguments."""
    variables = [v.value for v in model.trainable_variables]
    temperature = tf.exp(log_temperature)
    u, copies = noise.uniforms, noise.n_samples
    layers = range(len(u))

    def hard(layer, logits):
        return harden(logits, u[layer])

    def rollout(k, noise_of_layers, below):
        def sample(layer, logits):
            if layer < k:
                return below[layer]
            noise = noise_of_layers[layer]
            return relax(logits, noise, temperature, estimator.muprop_relaxation)

        return model.rollout(x, sample, copies).objective

    with tf.GradientTape(persistent=True) as tape:
        at_hard = model.rollout(x, hard, copies)
        b = at_hard.samples
        v = [couple(u[i], b[i], at_hard.logits[i]) for i in layers]
        log_q = tf.add_n(list(at_hard.log_q))
        terms = []
        for k in layers if estimator.quadratic else [0]:
            follows = [
                i >= k and (i == k or estimator.coupling == "all" or not estimator.quadratic)
                for i in layers
            ]
            mixed = [v[i] if follows[i] else u[i] for i in layers]
            scored_log_q = at_hard.log_q[k] if estimator.quadratic else log_q
            terms.append((rollout(k, u, b), rollout(k, mixed, b), scored_log_q))

    rows = u[0].shape[0]
    ones = tf.ones([rows], x.dtype) / rows

    def derivative(target, cotangent):
        return tape.gradient(
            target, variables, cotangent, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    f_part = add(
        derivative(log_q, -(at_hard.objective - baseline) / rows),
        derivative(at_hard.log_joint, -ones),
    )
    h_part = [tf.zeros_like(p) for p in f_part]
    for s, s_coupled, scored_log_q in terms:
        h_part = add(h_part, derivative(scored_log_q, s / rows))
        h_part = add(h_part, derivative(s, -ones))
        h_part = add(h_part, derivative(s_coupled, ones))
    return [p + eta[i] * h for i, (p, h) in enumerate(zip(f_part, h_part, strict=True))]


def add(a: list, b: list) -> list:
    """Add two lists of tensors elementwise."""
    return [x + y for x, y in zip(a, b, strict=True)]


def estimate(estimator: Estimator, model: Model, x: tf.Tensor, noise: Noise) -> tuple:
    """g, and the gradients of mean g^2 aligned with estimator.trainable_variables."""
    learned = [v.value for v in estimator.trainable_variables]
    with tf.GradientTape() as tape:
        if estimator.log_temperature is not None:
            log_temperature = tf.identity(estimator.log_temperature.value)
        else:
            log_temperature = tf.constant(math.log(estimator.initial_temperature), x.dtype)
        eta = 2 / (1 + tf.exp(-estimator.raw_eta.value))
        first, second = estimator.baseline.hidden, estimator.baseline.output_layer
        hidden = tf.tanh((x - model.input_mean) @ first.kernel.value + first.bias.value)
        baseline = (hidden @ second.kernel.value + second.bias.value)[:, 0]
        baseline = tf.concat([baseline] * noise.n_samples, axis=0)
        g = gradient(estimator, model, x, noise, log_temperature, eta, baseline)
        components = sum(math.prod(p.shape) for p in g)
        mean_square = tf.add_n([tf.reduce_sum(p * p) for p in g]) / components
    return g, tape.gradient(mean_square, learned)
