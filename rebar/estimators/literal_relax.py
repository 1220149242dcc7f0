"""RELAX in the form of the papers, a readable reference for `relax.py`.

Coupled rollouts, and reverse-over-reverse gradients of mean g^2, for any noise w of v. With
z_k = logits_k + logit u_k on the hard path and f at samples that are hard under layer k and
relaxed, sigmoid(z / T), from k on,

    c_k  = s [ f(relaxed with noise u) + r_k(input_k, z_k) ]
    c~_k = s [ f(relaxed with noise u, but v at layer k) + r_k(input_k, z~_k) ]
    v = u' + (1 - u') w if b = 1, u' w if b = 0,    u' = sigmoid(-logits_k)
    z~_k = logits_k + logit v
    g = - mean [ sum_k ( (f(b) - c~_k) d log q_k + d c_k - d c~_k ) + d log p ]

The tape differentiates c and c~ along all paths: through log q in f, from the logits directly to z
and z~, and through v. Learning signals are cotangents of `tape.gradient`, so an outer tape also
differentiates them w.r.t. s, T and r.

Source: Grathwohl et al. 2018 (arXiv 1711.00123), the estimator g_RELAX; Tucker et al. 2017.
"""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from rebar.estimators.base import Estimator
from rebar.estimators.literal_rebar import add, couple, harden, perturbation, relax
from rebar.noise import Noise
from rebar.types import Model


def network(weights: Sequence[tf.Tensor], inputs: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    """r [N] of inputs and noisy logits z [N, H], with LeakyReLU units."""
    kernel, bias, output_kernel, output_bias = weights
    a = tf.concat([inputs, z], axis=1) @ kernel + bias
    return (tf.where(a > 0, a, 0.3 * a) @ output_kernel + output_bias)[:, 0]


def noisy(logits: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Noisy logits [N, width] from uniforms; categorical logits are normalized."""
    if logits.shape.rank == 2:
        return logits + perturbation(u, logits)
    return _flat(tf.nn.log_softmax(logits) + perturbation(u, logits))


def _flat(values):
    return tf.reshape(values, [-1, math.prod(values.shape[1:])])


def parts(
    model: Model,
    x: tf.Tensor,
    noise: Noise,
    log_temperature: tf.Tensor,
    scale: tf.Tensor,
    networks: Sequence,
    w: Any = None,
) -> tuple:
    """Return the terms of g, each aligned with the model's variables.

    Args:
      log_temperature, scale: scalars.
      networks: four weight tensors per layer's r.
      w: L x [N, H]; None for those with v = u.

    Returns:
      Terms of the scores, of d c - d c~, and of d log p, differentiable w.r.t. log_temperature,
      scale and networks.
    """
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
            return relax(logits, noise_of_layers[layer], temperature, False)

        return model.rollout(x, sample, copies).objective

    with tf.GradientTape(persistent=True) as tape:
        at_hard = model.rollout(x, hard, copies)
        b, logits = at_hard.samples, at_hard.logits
        inputs = [tf.tile(x - model.input_mean, [copies, 1]), *(_flat(2 * s - 1) for s in b[:-1])]
        terms = []
        for k in layers:
            v = couple(u[k], b[k], logits[k], None if w is None else w[k])
            mixed = [v if i == k else u[i] for i in layers]
            r = network(networks[k], inputs[k], noisy(logits[k], u[k]))
            r_coupled = network(networks[k], inputs[k], noisy(logits[k], v))
            terms.append(
                (scale * (rollout(k, u, b) + r), scale * (rollout(k, mixed, b) + r_coupled))
            )

    ones = tf.ones([u[0].shape[0]], x.dtype) / u[0].shape[0]

    def derivative(targets, cotangents):
        return tape.gradient(
            targets, variables, cotangents, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    signals = [c_coupled - at_hard.objective for _, c_coupled in terms]
    return (
        derivative(list(at_hard.log_q), [s * ones for s in signals]),
        derivative(tf.nest.flatten(terms), [-ones, ones] * len(terms)),
        derivative(at_hard.log_joint, -ones),
    )


def gradient(*arguments: Any) -> list:
    """g, aligned with the model's variables; arguments are those of `parts`."""
    score, reparameterized, generator = parts(*arguments)
    return add(add(score, reparameterized), generator)


def network_weights(estimator: Estimator) -> list:
    """Return four weight tensors per layer's r."""
    return [
        [
            tf.identity(v.value)
            for v in (r.hidden_kernel, r.hidden_bias, r.output_kernel, r.output_bias)
        ]
        for r in estimator.networks
    ]


def estimate(estimator: Estimator, model: Model, x: tf.Tensor, noise: Noise) -> tuple:
    """g, and the gradients of mean g^2 aligned with estimator.trainable_variables."""
    learned = [v.value for v in estimator.trainable_variables]
    with tf.GradientTape() as tape:
        log_temperature = tf.identity(estimator.log_temperature.value)
        scale = tf.exp(estimator.log_scale.value)
        g = gradient(model, x, noise, log_temperature, scale, network_weights(estimator))
        components = sum(math.prod(p.shape) for p in g)
        mean_square = tf.add_n([tf.reduce_sum(p * p) for p in g]) / components
    return g, tape.gradient(mean_square, learned)
