"""Formulas of the estimators for binary latents, and of those for both kinds."""

from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from rebar import noise as noise_module
from rebar import registry
from rebar.estimators import literal_rebar, literal_relax
from tests.conformance.literal.common import (
    bound,
    descend,
    gradients,
    hard,
    main_chain,
    mean,
    mean_of_others,
    rollout,
    row_sum,
    score,
    score_of_bound,
    shapes,
)


def _baseline(layer, c):
    """tanh((x - mean) W + a) w + b of the samples of each example: [S, B]."""
    first, second = layer.hidden, layer.output_layer
    hidden = tf.tanh((c.x - c.model.input_mean) @ first.kernel.value + first.bias.value)
    return tf.tile(
        tf.transpose(hidden @ second.kernel.value + second.bias.value), [c.noise.n_samples, 1]
    )


def _scale(raw):
    """2 sigmoid(raw)."""
    return 2 / (1 + tf.exp(-raw.value))


def reinforce(c):
    main, f = main_chain(c)
    if registry.entry(c.name).multi_sample and c.settings.multi_sample:
        signal = bound(f) - mean_of_others(bound(f))
        return score_of_bound(c, main.samples, np.tile(signal, [len(f), 1])), []
    rows = f.reshape(-1)
    return score(c, main.samples, rows - mean_of_others(rows)), []


def nvil(c):
    main, f = main_chain(c)
    target = np.tile(bound(f), [len(f), 1]) if c.settings.multi_sample else f
    with tf.GradientTape() as tape:
        signal = target - _baseline(c.estimator.baseline, c)
        objective = tf.reduce_mean(signal**2)
    control = gradients(tape, objective, c.estimator.trainable_variables)
    of = score_of_bound if c.settings.multi_sample else score
    return of(c, main.samples, signal.numpy()), control


def _mean_field(c):
    """f [B] at the means, and its total derivatives w.r.t. the means of each layer, [B, H]."""
    shifts = [tf.zeros([len(c.x), *shape], c.x.dtype) for shape in shapes(c)]
    with tf.GradientTape() as tape:
        tape.watch(shifts)
        r = c.model.rollout(c.x, lambda layer, logits: mean(logits) + shifts[layer])
    return r.objective, tape.gradient(r.objective, shifts), r.samples


def simple_muprop(c):
    main, f = main_chain(c)
    at_means, _, _ = _mean_field(c)
    with tf.GradientTape() as tape:
        signal = f - _scale(c.estimator.scale) * at_means - _baseline(c.estimator.baseline, c)
        objective = tf.reduce_mean(signal**2)
    control = gradients(tape, objective, c.estimator.trainable_variables)
    return score(c, main.samples, signal.numpy()), control


def muprop(c):
    main, f = main_chain(c)
    at_means, derivatives, means = _mean_field(c)
    e, copies = c.estimator, c.noise.n_samples
    derivatives, means = (
        [tf.concat([v] * copies, axis=0) for v in vs] for vs in (derivatives, means)
    )
    layers = range(len(means))
    with tf.GradientTape() as tape:
        signals = []
        for i in layers:
            linear = row_sum(derivatives[i] * (main.samples[i] - means[i]))
            signals.append(
                f
                - _scale(e.scales[i]) * at_means
                - _scale(e.linear_scales[i]) * tf.reshape(linear, f.shape)
                - _baseline(e.baselines[i], c)
            )
        objective = tf.add_n([tf.reduce_mean(signal**2) for signal in signals])
    control = gradients(tape, objective, e.trainable_variables)
    signals = [np.reshape(signal, -1) for signal in signals]
    factors = [_scale(e.linear_scales[i]).numpy() * derivatives[i].numpy() for i in layers]

    def surrogate(r):
        terms = [signals[i] * r.log_q[i] + row_sum(factors[i] * mean(r.logits[i])) for i in layers]
        return -tf.reduce_mean(tf.add_n(terms) + r.log_joint)

    return descend(c, main.samples, surrogate), control


def rebar(c):
    s, e = c.settings, c.estimator
    coupling = s.coupling
    if coupling == "auto":
        coupling = "all" if s.legacy2017 else "switch"
    dynamic = e.log_temperature is not None
    stated = SimpleNamespace(
        initial_temperature=None if dynamic else s.temperature,
        muprop_relaxation=s.muprop_relaxation,
        quadratic=s.quadratic,
        coupling=coupling,
        log_temperature=e.log_temperature,
        raw_eta=e.raw_eta,
        baseline=e.baseline,
        trainable_variables=e.trainable_variables,
    )
    return literal_rebar.estimate(stated, c.model, c.x, c.noise)


def dynamic_rebar(c):
    _require_initial_temperature(c)
    return rebar(c)


def relax(c):
    _require_initial_temperature(c)
    return literal_relax.estimate(c.estimator, c.model, c.x, c.noise)


def _require_initial_temperature(c):
    """The weight still has its initial value, the logarithm of the setting."""
    value = np.exp(c.estimator.log_temperature.numpy())
    np.testing.assert_allclose(value, c.settings.temperature, rtol=1e-6)


def gumbel(c):
    s = c.settings

    def sample(layer, logits):
        return literal_rebar.relax(
            logits, c.noise.uniforms[layer], s.temperature, s.muprop_relaxation
        )

    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(c.model.rollout(c.x, sample, c.noise.n_samples).objective)
    return gradients(tape, loss, c.model.trainable_variables), []


def leave_one_out(c):
    main, f = main_chain(c)
    return score(c, main.samples, f - mean_of_others(f)), []


def _antithetic(c, main, layer, noise):
    """The rollout of the chain that leaves the main one at a layer."""
    independent = c.settings.continuation == "independent"
    branch = noise.branches[layer] if independent else None
    sampler = hard(noise, layer, main.samples[:layer], branch)
    return c.model.rollout(c.x, sampler, noise.n_samples)


def _pairs(c, factor):
    """- mean_n [ sum_l (f - f~_l) factor_l . d logits_l + d log p ]."""
    main, _ = main_chain(c)
    cotangents = []
    for layer in range(len(main.logits)):
        other = _antithetic(c, main, layer, c.noise)
        difference = (main.objective - other.objective).numpy()[:, np.newaxis]
        b, b_other = main.samples[layer].numpy(), other.samples[layer].numpy()
        u, logits = c.noise.uniforms[layer].numpy(), main.logits[layer].numpy()
        cotangents.append(difference * factor(u, b, b_other, logits))

    def surrogate(r):
        terms = [tf.reduce_sum(k * a, axis=1) for k, a in zip(cotangents, r.logits, strict=True)]
        return -tf.reduce_mean(tf.add_n(terms) + r.log_joint)

    return descend(c, main.samples, surrogate), []


def _disarm_factor(u, b, b_other, logits):
    sign = np.where(b_other == 1, -1.0, 1.0)
    return 0.5 * sign * (b != b_other) / (1 + np.exp(-np.abs(logits)))


def arm(c):
    return _pairs(c, lambda u, b, b_other, logits: u - 0.5)


def disarm(c):
    return _pairs(c, _disarm_factor)


def vimco(c):
    main, f = main_chain(c)
    signal = np.zeros(f.shape)
    for k in range(len(f)):
        others = np.delete(f, k, axis=0)
        # A mean of the other weights exp f takes the place of the weight of k.
        if c.settings.vimco_mean == "geometric":
            weight = np.exp(others).prod(0) ** (1 / len(others))
        else:
            weight = np.exp(others).mean(0)
        signal[k] = bound(f) - bound(np.concatenate([others, np.log(weight)[None]]))
    return score_of_bound(c, main.samples, signal), []


def ovis(c):
    main, f = main_chain(c)
    custom, k = dict(c.settings.custom), len(f)
    gamma, n_fresh = custom["ovis_gamma"], custom["ovis_samples"]

    def total(f, i):
        """L - v_i."""
        return bound(f) - np.exp(f[i]) / np.exp(f).sum(0)

    v = np.exp(f) / np.exp(f).sum(0)
    if not n_fresh:
        signal = -np.log(1 - v) + gamma * (v + np.log(1 - 1 / k))
        return score_of_bound(c, main.samples, signal), []
    uniforms = noise_module.SiteUniforms(noise_module.fold_in(c.noise.key, 512))
    rows = n_fresh * len(c.x)
    layers = [uniforms.at(i, [rows, *shape], f.dtype) for i, shape in enumerate(shapes(c))]
    rollout = c.model.rollout(c.x, hard(noise_module.Noise(layers)), n_fresh)
    fresh = np.reshape(rollout.objective, [n_fresh, 1, -1])
    signal = np.zeros(f.shape)
    for i in range(k):
        replaced = [np.concatenate([f[:i], value, f[i + 1 :]]) for value in fresh]
        signal[i] = bound(f) - sum(total(g, i) for g in replaced) / n_fresh
    return score_of_bound(c, main.samples, signal), []


def rws(c):
    """- mean_B sum_k v_k (d log p + d log q)."""
    main, f = main_chain(c)
    v = np.exp(f) / np.exp(f).sum(0)

    def surrogate(r):
        log_p_and_q = r.objective + 2 * tf.add_n(list(r.log_q))
        return -tf.reduce_sum(v.reshape(-1) * log_p_and_q) / len(c.x)

    return descend(c, main.samples, surrogate), []


def local_disarm(c):
    half = [u[: len(u) // 2] for u in c.noise.uniforms]
    branches = [[u[: len(u) // 2] for u in layer] for layer in c.noise.branches]
    n = c.noise.n_samples // 2
    c = SimpleNamespace(**vars(c) | {"noise": noise_module.Noise(half, n, branches)})
    main, f = main_chain(c)
    sides = ("main", "other") if c.settings.symmetrized else ("main",)
    layers = range(len(main.logits))
    chains = [_antithetic(c, main, layer, c.noise) for layer in layers]

    def weights(values):
        return np.reshape(np.exp(values) / np.sum(np.exp(values), axis=0), -1)

    def replaced(values, by, k):
        return np.concatenate([np.delete(values, k, axis=0), by[k : k + 1]])

    cotangents, f_others = [], []
    for layer in layers:
        g = np.reshape(chains[layer].objective, f.shape)
        f_others.append(g)
        signal = np.zeros(f.shape)
        for k in range(n):
            signal[k] = bound(f) - bound(replaced(f, g, k))
            if c.settings.symmetrized:
                signal[k] = (signal[k] + bound(replaced(g, f, k)) - bound(g)) / 2
        b, b_other = main.samples[layer].numpy(), chains[layer].samples[layer].numpy()
        factor = _disarm_factor(None, b, b_other, main.logits[layer].numpy())
        cotangents.append(signal.reshape(-1, 1) * factor)

    with tf.GradientTape() as tape:
        r = rollout(c, main.samples)
        others = [rollout(c, chain.samples) for chain in chains]
        total = tf.reduce_sum(weights(f) * r.log_joint)
        if c.settings.symmetrized:
            of_others = [
                tf.reduce_sum(weights(g) * o.log_joint)
                for g, o in zip(f_others, others, strict=True)
            ]
            total = total / 2 + tf.add_n(of_others) / (2 * len(others))
        for layer in layers:
            total += tf.reduce_sum(cotangents[layer] * r.logits[layer])
            if n > 1:  # else its mean is zero, and it is left out
                direct = {
                    "main": weights(f) * r.log_q[layer],
                    "other": weights(f_others[layer]) * others[layer].log_q[layer],
                }
                total -= tf.add_n([tf.reduce_sum(direct[side]) for side in sides]) / len(sides)
        loss = -total / len(c.x)
    return gradients(tape, loss, c.model.trainable_variables), []
