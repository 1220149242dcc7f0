"""The objective f of the built-in models in NumPy, from the values of their weights.

    f, log_weight, samples = evaluate(model, x, sample, n_samples, kind, activation)

f and log_weight are [S, B], the latter that of the multi-sample bound; `sample(layer, logits)`
returns samples [N, ...], as `of_uniforms` does.
"""

import functools

import numpy as np

from rebar import factory
from rebar.models.categorical_vae import CategoricalVAE

NARROW = (6, 5)


def narrow(patch):
    """Let models of hyperparameters have NARROW hidden layers where the paper's are wide."""
    patch.setattr(factory, "CategoricalVAE", functools.partial(CategoricalVAE, hidden=NARROW))


def of_uniforms(uniforms):
    """b = 1[u > 1 - p] of logits [N, H], or one-hot argmax(logits + G) of [N, V, C]."""

    def sample(layer, a):
        if a.ndim == 2:
            return (uniforms[layer] > 1 - 1 / (1 + np.exp(-a))) * 1.0
        perturbed = a - np.log(-np.log(np.reshape(uniforms[layer], a.shape)))
        return np.eye(a.shape[-1])[np.argmax(perturbed, axis=-1)]

    return sample


def evaluate(model, x, sample, n_samples, kind, activation="tanh", likelihood="bernoulli"):
    """Kinds: "unconditional", "multilayer", "2017" and "categorical"."""
    x = np.tile(np.asarray(x, np.float64), [n_samples, 1])
    mean = np.asarray(model.input_mean, np.float64)
    log_p = _log_bernoulli
    if likelihood == "gaussian":  # of pixels in [-1, 1], also the input of q
        x, mean = 2 * x - 1, 0 * mean + 0.5
        log_p = functools.partial(_log_gaussian, rho=model.likelihood.rho.numpy())
    of_kind = _categorical if kind == "categorical" else _sbn
    centered = x if likelihood == "gaussian" else x - mean
    f, log_weight, samples = of_kind(
        model, x, centered, mean, sample, kind, ACTIVATIONS[activation], log_p
    )
    return f.reshape(n_samples, -1), log_weight.reshape(n_samples, -1), samples


ACTIVATIONS = {"tanh": np.tanh, "leaky_relu": lambda a: np.where(a > 0, a, 0.3 * a)}


def bound(log_weight):
    """log 1/S sum_s exp w_s: [S, B] -> [B]."""
    most = np.max(log_weight, axis=0)
    return most + np.log(np.mean(np.exp(log_weight - most), axis=0))


def _dense(layers, values, activation):
    """Dense layers with an activation between them."""
    for i, layer in enumerate(layers):
        values = values @ layer.kernel.numpy().astype(np.float64) + layer.bias.numpy()
        values = activation(values) if i < len(layers) - 1 else values
    return values


def _log_bernoulli(b, a):
    """sum of b log p + (1 - b) log(1 - p), [N]."""
    return -np.sum(b * np.logaddexp(0, -a) + (1 - b) * np.logaddexp(0, a), axis=1)


def _log_gaussian(x, a, rho):
    """sum of log N(x; a, v), v = max(log(1 + exp(rho)), .001), [N]."""
    v = np.maximum(np.logaddexp(0, rho), 0.001)
    return np.sum(-0.5 * np.log(2 * np.pi * v) - (x - a) ** 2 / (2 * v), axis=1)


def _log_categorical(z, a):
    """sum of z log softmax(a), [N]."""
    return np.sum(z * (a - np.log(np.sum(np.exp(a), axis=-1, keepdims=True))), axis=(1, 2))


def _log_prob(b, a):
    """log q of samples [N, ...] at logits [N, width]."""
    return (_log_bernoulli if b.ndim == 2 else _log_categorical)(b, a.reshape(b.shape))


def _sbn(model, x, centered, mean, sample, kind, activation, log_p):
    half = len(mean) // 2 if kind != "unconditional" else 0
    y = x[:, half:]
    clipped = np.clip(mean, 0.001, 0.999)[half:]
    output_bias = np.log(clipped / (1 - clipped))
    # The generator's networks start at the last layer, q's at the first.
    p_networks = [t.dense for t in reversed(model.generator.transformations)]
    values = centered[:, :half] if kind == "2017" else centered
    samples, log_q = [], 0
    for layer, network in enumerate(model.recognition.transformations):
        a = _dense(network.dense, values, activation)
        samples.append(sample(layer, a.reshape(len(x), *model.latent_shapes[layer])))
        log_q = log_q + _log_prob(samples[-1], a)
        values = 2 * samples[-1].reshape(len(x), -1) - 1
    inputs = [2 * b.reshape(len(x), -1) - 1 for b in samples]
    if kind == "2017":
        f = log_p(y, _dense(p_networks[0], inputs[-1], activation) + output_bias)
        return f, f, samples
    if kind == "multilayer":
        prior = _dense(model.prior.dense, centered[:, :half], activation)
    else:
        prior = np.zeros(samples[-1].shape) + model.prior.logits.numpy()
    f = _log_prob(samples[-1], prior) - log_q
    f += log_p(y, _dense(p_networks[0], inputs[0], activation) + output_bias)
    for layer in range(1, len(samples)):
        f += _log_prob(samples[layer - 1], _dense(p_networks[layer], inputs[layer], activation))
    return f, f, samples


def _categorical(model, x, centered, mean, sample, kind, activation, log_likelihood):
    def relu(a):
        return np.maximum(a, 0)

    n_latents, n_categories = model.latent_shape
    a = _dense(model.encoder, x, relu).reshape(-1, n_latents, n_categories)
    prior = np.zeros([n_latents, n_categories])
    if model.prior_variables:
        prior = prior + model.prior_variables[0].numpy()
    log_q, log_p = (v - np.log(np.sum(np.exp(v), axis=-1, keepdims=True)) for v in (a, prior))
    divergence = np.sum(np.exp(log_q) * (log_q - log_p), axis=(1, 2))
    z = sample(0, a)
    pixels = _dense(model.decoder, z.reshape(len(x), -1), relu)
    log_likelihood = log_likelihood(x, pixels)
    log_weight = log_likelihood + np.sum(z * (log_p - log_q), axis=(1, 2))
    return log_likelihood - divergence, log_weight, [z]
