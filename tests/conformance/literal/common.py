"""What formulas share: hard samples, scores, and gradients at fixed samples.

`c` has the arguments of `literal.estimate`.
"""

import numpy as np
import tensorflow as tf

from rebar import registry


def hard(noise, flip=None, below=(), branch=None):
    """Sampler b = 1[u > 1 - p]; with 1 - u in layer `flip`; with other uniforms above it."""

    def sample(layer, logits):
        if layer < len(below):
            return below[layer]
        u = noise.uniforms[layer]
        if layer == flip:
            u = 1 - u
        elif branch is not None and layer > flip:
            u = branch[layer - flip - 1]
        return tf.cast(u > 1 - tf.sigmoid(tf.stop_gradient(logits)), u.dtype)

    return sample


def rollout(c, samples):
    return c.model.rollout(c.x, lambda layer, _: samples[layer], c.noise.n_samples)


def descend(c, samples, surrogate):
    """Gradients w.r.t. the model of a function of the rollout at fixed samples."""
    with tf.GradientTape() as tape:
        value = surrogate(rollout(c, samples))
    return gradients(tape, value, c.model.trainable_variables)


def gradients(tape, value, variables):
    zeros = [tf.zeros(v.shape, v.dtype) for v in variables]
    values = tape.gradient(value, variables)
    return [z if g is None else g for g, z in zip(values, zeros, strict=True)]


def main_chain(c):
    """The hard rollout, and f as [S, B]."""
    categorical = registry.entry(c.name).latents == "categorical"
    sampler = argmax(c) if categorical else hard(c.noise)
    rollout = c.model.rollout(c.x, sampler, c.noise.n_samples)
    return rollout, rollout.objective.numpy().reshape(c.noise.n_samples, -1)


def bound(f):
    """log 1/K sum_k exp f_k: [K, B] -> [B]."""
    return np.log(np.mean(np.exp(f), axis=0))


def score(c, samples, signal):
    """- mean_n [ signal_n d log q_n + d log p_n ], signal [S, B]."""
    signal = np.reshape(signal, -1)

    def surrogate(r):
        return -tf.reduce_mean(signal * tf.add_n(list(r.log_q)) + r.log_joint)

    return descend(c, samples, surrogate)


def estimate(c, samples, cotangents):
    """- mean_n [ sum_l cotangent_l . d logits_l + d log p ], cotangents [N, ...]."""

    def surrogate(r):
        terms = [row_sum(k * a) for k, a in zip(cotangents, r.logits, strict=True)]
        return -tf.reduce_mean(tf.add_n(terms) + r.log_joint)

    return descend(c, samples, surrogate)


def score_of_bound(c, samples, signal):
    """- mean_B [ sum_k signal_k d log q_k + d L at fixed samples ], signal [K, B]."""

    def surrogate(r):
        log_q = tf.reshape(tf.add_n(list(r.log_q)), signal.shape)
        # For one sample, d log q at fixed samples has mean zero, and is left out.
        f = r.objective if len(signal) > 1 else r.log_joint
        bound = tf.reduce_logsumexp(tf.reshape(f, signal.shape), axis=0)
        return -tf.reduce_mean(tf.reduce_sum(signal * log_q, axis=0) + bound)

    return descend(c, samples, surrogate)


def mean_of_others(values, axis=0):
    """Mean of the other values along an axis; 0 if there is none."""
    n = values.shape[axis]
    return np.stack(
        [
            np.delete(values, i, axis).mean(axis) if n > 1 else np.zeros(values.shape[1:])
            for i in range(n)
        ],
        axis,
    )


def shapes(c):
    """Shape of a row of each layer."""
    return getattr(c.model, "latent_shapes", None) or [(n,) for n in c.model.n_units]


def mean(logits):
    return tf.sigmoid(logits) if len(logits.shape) == 2 else tf.nn.softmax(logits)


def row_sum(values):
    return tf.reduce_sum(values, axis=list(range(1, len(values.shape))))


def gumbels(u, shape):
    return -np.log(-np.log(np.reshape(u, [-1, *shape])))


def argmax(c):
    """Sampler of one-hot argmax(logits + G)."""

    def sample(_, logits):
        perturbed = logits.numpy() + gumbels(c.noise.uniforms[0], c.model.latent_shape)
        return tf.constant(np.eye(logits.shape[-1])[np.argmax(perturbed, axis=-1)], logits.dtype)

    return sample


def value_at(c, main, layer, b, independent=False):
    """f of the chain that has b in a layer, [N]; above, the main chain's noise or another."""
    branch = c.noise.branches[layer] if independent else None
    sampler = hard(c.noise, layer, [*main.samples[:layer], tf.constant(b)], branch)
    return c.model.rollout(c.x, sampler, c.noise.n_samples).objective.numpy()
