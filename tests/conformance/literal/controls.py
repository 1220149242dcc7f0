"""Formulas of DoubleCV, RODEO and ARMS, one sample and one unit at a time."""

import numpy as np
import tensorflow as tf

from rebar import noise as noise_module
from tests.conformance.literal.common import (
    bound,
    descend,
    estimate,
    gradients,
    main_chain,
    mean,
    row_sum,
    shapes,
    value_at,
)


def _estimate_of_bound(c, samples, cotangents):
    """- mean_B [ sum_{k,l} cotangent_{k,l} . d logits_{k,l} + sum_k v_k d log p ]."""

    def surrogate(r):
        terms = [row_sum(k * a) for k, a in zip(cotangents, r.logits, strict=True)]
        f = tf.reshape(tf.stop_gradient(r.objective), [c.noise.n_samples, -1])
        weights = tf.reshape(tf.nn.softmax(f, axis=0), [-1])
        return -tf.reduce_sum(tf.add_n(terms) + weights * r.log_joint) / len(c.x)

    return descend(c, samples, surrogate)


def _by_sample(c, values, shape):
    return np.reshape(values, [c.noise.n_samples, len(c.x), *shape])


def _layers(c):
    """The main chain, f [S, B], and per layer b, means and df/db, [S, B, ...]."""
    main, f = main_chain(c)
    with tf.GradientTape() as tape:
        tape.watch(main.samples)
        value = c.model.rollout(
            c.x, lambda layer, _: main.samples[layer], c.noise.n_samples
        ).objective
    slopes = tape.gradient(value, main.samples)
    layers = [
        [_by_sample(c, v, shape) for v in (b, mean(tf.reshape(a, b.shape)), slope)]
        for b, a, slope, shape in zip(main.samples, main.logits, slopes, shapes(c), strict=True)
    ]
    return main, f, layers


def _others(values, k):
    """Mean of the values but the k-th."""
    return sum(v for j, v in enumerate(values) if j != k) / (len(values) - 1)


def _learned(c, main, cotangents_of, variables):
    """The estimate, and the gradients of the mean square of the logits' gradient."""
    with tf.GradientTape() as tape:
        cotangents = [
            tf.reshape(tf.stack(k), b.shape)
            for k, b in zip(cotangents_of(), main.samples, strict=True)
        ]
        square = tf.add_n([tf.reduce_mean(k**2) for k in cotangents])
    control = gradients(tape, square, variables)
    return estimate(c, main.samples, cotangents), control


def double_cv(c):
    main, f, layers = _layers(c)

    def cotangents():
        for scale, (b, m, d) in zip(c.estimator.scales, layers, strict=True):
            others = [_others(d, k) for k in range(len(b))]
            pairs = zip(b, m, others, strict=True)
            dots = [((z - p) * o).reshape(len(c.x), -1).sum(1) for z, p, o in pairs]
            values = [f_k + scale.value * dot for f_k, dot in zip(f, dots, strict=True)]
            yield [
                tf.reshape(values[k] - _others(values, k), [-1] + [1] * (b.ndim - 2))
                * (b[k] - m[k])
                - scale.value * _covariance(m[k], others[k])
                for k in range(len(b))
            ]

    return _learned(c, main, cotangents, c.estimator.trainable_variables)


def _covariance(m, d):
    """Covariance of a sample of mean m [B, H] or [B, V, C], times d."""
    if m.ndim == 2:
        return m * (1 - m) * d
    return m * d - m * np.sum(m * d, axis=-1, keepdims=True)


def rodeo(c):
    main, f, layers = _layers(c)

    def network(layer, f_j, s):
        """H of a number per image each: h and r, [B]."""
        n = c.estimator.networks[layer]
        hidden = np.stack([f_j, s], axis=1) @ n.hidden_kernel.value + n.hidden_bias.value
        hidden = tf.where(hidden > 0, hidden, 0.3 * hidden)
        return tf.unstack(hidden @ n.output_kernel.value + n.output_bias.value, axis=1)

    def surrogates(layer, k, y):
        """h_k(y) and r_k(y), [B]."""
        b, _, d = layers[layer]
        of = [network(layer, f[j], (d[j] * (y - b[j])).sum(1)) for j in range(len(b)) if j != k]
        return [tf.add_n(values) / len(of) for values in zip(*of, strict=True)]

    def neighbors(b, p):
        """The samples with one unit flipped, and the probability of its flipped value."""
        for i in range(b.shape[1]):
            y = b.copy()
            y[:, i] = 1 - y[:, i]
            yield y, np.where(y[:, i] == 1, p[:, i], 1 - p[:, i])

    def cotangents():
        for layer, (b, p, _) in enumerate(layers):
            alpha, beta = (v.value for v in c.estimator.scales[layer])
            units, values, vectors = b.shape[-1], [], []
            for k in range(len(b)):
                h, r = surrogates(layer, k, b[k])
                scalar, vector = 0, 0
                for y, w in neighbors(b[k], p[k]):
                    h_y, r_y = surrogates(layer, k, y)
                    scalar += w * (h_y - h) / units
                    at_y, here = r_y[:, None] * (y - p[k]), r[:, None] * (b[k] - p[k])
                    vector += w[:, None] * (at_y - here) / units
                values.append(f[k] + alpha * scalar)
                vectors.append(beta * vector)
            yield [
                (f[k] - _others(values, k))[:, None] * (b[k] - p[k]) + vectors[k]
                for k in range(len(b))
            ]

    return _learned(c, main, cotangents, c.estimator.trainable_variables)


def arms(c):
    main, f_main = main_chain(c)
    n, cotangents = dict(c.settings.custom)["n_antithetic"], []
    follows_bound = c.settings.multi_sample
    for layer, (b, logits) in enumerate(zip(main.samples, main.logits, strict=True)):
        p, u = mean(logits).numpy(), c.noise.uniforms[layer].numpy()
        key = noise_module.fold_in(c.noise.key, 16 + layer)
        e = -np.log(noise_module.uniforms(key, [n - 1, *u.shape], u.dtype))
        first = 1 - np.where(p < 0.5, 1 - u, u) ** (1 / (n - 1))
        samples = [b.numpy()]
        for m in range(n - 1):
            v = (1 - (1 - first) * e[m] / e.sum(0)) ** (n - 1)
            samples.append(np.where(p < 0.5, v < p, 1 - v < p) * 1.0)

        def joint(r):
            return np.maximum(2 * r ** (1 / (n - 1)) - 1, 0) ** (n - 1)

        both = np.where(p < 0.5, joint(p), 2 * p - 1 + joint(1 - p))
        f = [value_at(c, main, layer, sample) for sample in samples]
        if follows_bound:
            direct = _direct(c, main, layer)
            f = [_signals(f_main, f_m.reshape(f_main.shape), direct) for f_m in f]
        f = [f_m[:, None] for f_m in f]
        terms = [(f_m - sum(f) / n) * (z - p) for f_m, z in zip(f, samples, strict=True)]
        cotangents.append(p * (1 - p) / (p - both) / (n - 1) * sum(terms))
    if follows_bound:
        return _estimate_of_bound(c, main.samples, cotangents), []
    return estimate(c, main.samples, cotangents), []


def _direct(c, main, layer):
    """-1 if f contains -log q of a layer, 0 if samples come from the model itself."""
    with tf.GradientTape() as tape:
        r = c.model.rollout(c.x, lambda i, _: main.samples[i], c.noise.n_samples)
    derivative = tape.gradient(r.objective, r.log_q[layer])
    return 0 if derivative is None else derivative.numpy()[0]


def _signals(f, others, direct):
    """L + v direct with f_k replaced by that of `others`, for each k: [K, B] -> [N]."""
    signals = []
    for k in range(len(f)):
        replaced = np.concatenate([f[:k], others[k : k + 1], f[k + 1 :]])
        v = np.exp(replaced[k]) / np.exp(replaced).sum(0)
        signals.append(bound(replaced) + v * direct)
    return np.concatenate(signals)
