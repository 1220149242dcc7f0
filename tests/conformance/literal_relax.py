"""RELAX written out: coupled rollouts, and reverse-over-reverse gradients of mean g^2.

Slow and straight from the papers, for any noise w behind v. With z_k = logits_k + logit u_k on the
hard path and f at samples that are hard under layer k and relaxed, sigmoid(z / T), from k on,

    c_k  = s [ f(relaxed with noise u) + r_k(input_k, z_k) ]
    c~_k = s [ f(relaxed with noise u, but v at layer k) + r_k(input_k, z~_k) ]
    v = u' + (1 - u') w if b = 1, u' w if b = 0,    u' = sigmoid(-logits_k)
    z~_k = logits_k + logit v
    g = - mean [ sum_k ( (f(b) - c~_k) d log q_k + d c_k - d c~_k ) + d log p ]

Everything in c and c~ is differentiated by the tape: f's path through log q, the logits' direct
paths into z and z~, and that through v. The learning signals are cotangents of `tape.gradient`,
which an outer tape differentiates, so that s, T and r act through them as well.
"""

import numpy as np
import tensorflow as tf

from tests.conformance.literal_rebar import add, logit, relax


def noise_given_sample(w, b, logits):
    """v in (0, 1): uniform on the side of u' = sigmoid(-logits) where b lies, for uniform w."""
    threshold = tf.sigmoid(-logits)
    return tf.where(b == 1, threshold + (1 - threshold) * w, threshold * w)


def same_noise(u, b, logits):
    """The w for which v = u."""
    threshold = tf.sigmoid(-logits)
    return tf.stop_gradient(tf.where(b == 1, (u - threshold) / (1 - threshold), u / threshold))


def network(weights, inputs, z):
    kernel, bias, output_kernel, output_bias = weights
    a = tf.concat([inputs, z], axis=1) @ kernel + bias
    return (tf.where(a > 0, a, 0.3 * a) @ output_kernel + output_bias)[:, 0]


def parts(model, x, noise, log_temperature, scale, networks, w=None):
    """What g is the sum of, each aligned with the model's variables.

    Args:
      log_temperature, scale: scalars.
      networks: the four weight tensors of each layer's r.
      w: L x [N, H]; None for those with v = u.

    Returns:
      with the scores, with d c - d c~, and with d log p; differentiable in log_temperature, scale
      and networks.
    """
    variables = [v.value for v in model.trainable_variables]
    temperature = tf.exp(log_temperature)
    u, copies = noise.uniforms, noise.n_samples
    layers = range(len(u))

    def hard(layer, logits):
        return tf.cast(tf.stop_gradient(logits) > -logit(u[layer]), logits.dtype)

    def rollout(k, noise_of_layers, below):
        def sample(layer, logits):
            if layer < k:
                return below[layer]
            return relax(logits, noise_of_layers[layer], temperature, False)

        return model.rollout(x, sample, copies).objective

    with tf.GradientTape(persistent=True) as tape:
        at_hard = model.rollout(x, hard, copies)
        b, logits = at_hard.samples, at_hard.logits
        inputs = [tf.tile(x - model.input_mean, [copies, 1]), *(2 * s - 1 for s in b[:-1])]
        terms = []
        for k in layers:
            w_k = same_noise(u[k], b[k], logits[k]) if w is None else w[k]
            v = noise_given_sample(w_k, b[k], logits[k])
            mixed = [v if i == k else u[i] for i in layers]
            r = network(networks[k], inputs[k], logits[k] + logit(u[k]))
            r_coupled = network(networks[k], inputs[k], logits[k] + logit(v))
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


def gradient(*arguments):
    """g, aligned with the model's variables; arguments as of `parts`."""
    score, reparameterized, generator = parts(*arguments)
    return add(add(score, reparameterized), generator)


def network_weights(estimator):
    """The four weight tensors of each layer's r."""
    return [
        [
            tf.identity(v.value)
            for v in (r.hidden_kernel, r.hidden_bias, r.output_kernel, r.output_bias)
        ]
        for r in estimator.networks
    ]


def estimate(estimator, model, x, noise):
    """g, and the gradients of mean g^2 aligned with estimator.trainable_variables."""
    own = [v.value for v in estimator.trainable_variables]
    with tf.GradientTape() as tape:
        log_temperature = tf.identity(estimator.log_temperature.value)
        scale = tf.exp(estimator.log_scale.value)
        g = gradient(model, x, noise, log_temperature, scale, network_weights(estimator))
        components = sum(int(np.prod(p.shape)) for p in g)
        mean_square = tf.add_n([tf.reduce_sum(p * p) for p in g]) / components
    return g, tape.gradient(mean_square, own)
