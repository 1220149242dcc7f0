"""Formulas of the estimators for categorical latents."""

import numpy as np
import tensorflow as tf

from rebar import noise as noise_module
from tests.conformance.literal import kernels
from tests.conformance.literal.common import (
    descend,
    estimate,
    gradients,
    gumbels,
    main_chain,
    rollout,
)


def exponentials(noise, count, shape):
    """E = -log u of 16-bit uniforms, two draws per word: [count, *shape]."""
    key = noise_module.fold_in(noise.key, 0)
    words = noise_module.words(key, [(count + 1) // 2, *shape]).numpy()
    bits = np.concatenate([words >> 16, words[: count // 2] & 0xFFFF])
    return -np.log((bits + 0.5) / 2**16)


def through(kernel, *settings, **options):
    """Formula - mean_n [ s . d logits + d f at fixed z ] of a kernel.

    Args:
      kernel: name of a literal kernel.
      *settings: "mc_samples" if it takes draws of the noise given the sample.
      **options: option of the kernel -> name of the setting.
    """

    def formula(c):
        main, _ = main_chain(c)
        z, logits = main.samples[0], main.logits[0].numpy()
        with tf.GradientTape() as tape:
            tape.watch(z)
            f = rollout(c, [z]).objective
        draws = {"gumbels": gumbels(c.noise.uniforms[0], logits.shape[1:])}
        if "mc_samples" in settings:
            draws["exponentials"] = exponentials(c.noise, c.settings.mc_samples, logits.shape)
        key = noise_module.fold_in(c.noise.key, 1)
        fresh = noise_module.uniforms(key, logits.shape, logits.dtype)
        draws["fresh"] = gumbels(fresh, logits.shape[1:])
        s = kernels.every(
            kernels.KERNELS[kernel],
            logits,
            z.numpy(),
            tape.gradient(f, z).numpy(),
            **draws,
            **{option: getattr(c.settings, name) for option, name in options.items()},
        )

        def surrogate(r):
            return -tf.reduce_mean(tf.reduce_sum(s * r.logits[0], axis=[1, 2]) + r.objective)

        return descend(c, [z], surrogate), []

    return formula


def decoupled(c):
    """Straight-through at logits l of the network, for which q = softmax(l / T_f)."""
    declared = dict(c.settings.custom)
    t_f = declared["forward_temperature"]
    main, _ = main_chain(c)
    z, logits = main.samples[0], main.logits[0].numpy() * t_f
    with tf.GradientTape() as tape:
        tape.watch(z)
        f = rollout(c, [z]).objective
    g = tape.gradient(f, z).numpy()
    s = kernels.every(
        kernels.st, logits, z.numpy(), g, temperature=declared["backward_temperature"]
    )

    def surrogate(r):
        of_network = r.logits[0] * t_f
        return -tf.reduce_mean(tf.reduce_sum(s * of_network, axis=[1, 2]) + r.objective)

    return descend(c, [z], surrogate), []


def diffused(logits, normals, gumbels, steps, end):
    """Logits of p with constant logits in the last step, those with a constant chain, and z."""
    a = [1.0, *np.linspace(1 - end, 0, steps - 1)]
    x = normals
    for t in range(steps - 1, 1, -1):
        p = tf.nn.softmax(logits + a[t] * x / (1 - a[t]) ** 2)
        x = a[t - 1] * p + (1 - a[t - 1]) * (x - a[t] * p) / (1 - a[t])
    shift = a[1] * x / (1 - a[1]) ** 2
    index = np.argmax((logits + shift).numpy() + gumbels, axis=-1)
    z = tf.constant(np.eye(logits.shape[-1])[index])
    return tf.stop_gradient(logits) + shift, logits + tf.stop_gradient(shift), z


def surrogate_of_diffusion(logits, normals, gumbels, g, steps, end, second_order):
    """z and s [..., C] for g(z) = df/dz."""
    logits = tf.constant(logits)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        of_chain, of_logits, z = diffused(logits, normals, gumbels, steps, end)
        through_chain = tf.reduce_sum(tf.nn.softmax(of_chain) * g(z))
        through_logits = tf.reduce_sum(tf.nn.softmax(of_logits) * g(z))
    s = tape.gradient(through_chain, logits, unconnected_gradients="zero").numpy()
    if second_order:
        return z, s + kernels.every(kernels.zgr, of_logits.numpy(), z.numpy(), np.array(g(z)))
    return z, s + tape.gradient(through_logits, logits).numpy()


def redge(c):
    main, _ = main_chain(c)
    logits = main.logits[0].numpy()
    key = noise_module.fold_in(c.noise.key, 2)
    normals = tf.math.ndtri(noise_module.uniforms(key, logits.shape, logits.dtype))
    declared = dict(c.settings.custom)

    def g(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            f = rollout(c, [z]).objective
        return tape.gradient(f, z)

    z, s = surrogate_of_diffusion(
        *(logits, normals, gumbels(c.noise.uniforms[0], logits.shape[1:]), g),
        *(declared["redge_steps"], declared["redge_end"], c.name == "CatReinDGE"),
    )

    def surrogate(r):
        return -tf.reduce_mean(tf.reduce_sum(s * r.logits[0], axis=[1, 2]) + r.objective)

    return descend(c, [z], surrogate), []


def sum_and_sample(c):
    main, _ = main_chain(c)
    z, logits = main.samples[0].numpy(), main.logits[0].numpy()
    noisy = logits + gumbels(c.noise.uniforms[0], logits.shape[1:])
    n_categories = logits.shape[-1]
    k = n_categories - 1
    if c.name == "CatSumAndSample":
        k = dict(c.settings.custom)["n_exact"]
    f = np.zeros(logits.shape)
    for v, category in np.ndindex(logits.shape[1:]):
        other = z.copy()
        other[:, v] = np.eye(n_categories)[category]
        f[:, v, category] = rollout(c, [tf.constant(other)]).objective
    g = sum_and_sample_gradient(logits, noisy, f, k)
    return estimate(c, main.samples, [g]), []


def sum_and_sample_gradient(logits, noisy, f, k):
    """For values f [N, V, C] of the categories; noisy logits choose that of the rest."""
    n_categories, g = logits.shape[-1], np.zeros(logits.shape)
    for i in np.ndindex(logits.shape[:-1]):
        pi = kernels.softmax(logits[i])
        order = np.argsort(-pi)
        top, rest = order[:k], order[k:]
        r = rest[np.argmax(noisy[i][rest])]
        b = np.sum(pi[top] * f[i][top]) / np.sum(pi[top])
        for category, w in [*zip(top, pi[top], strict=True), (r, np.sum(pi[rest]))]:
            g[i] += w * (f[i][category] - b) * (np.eye(n_categories)[category] - pi)
    return g


def exact(c):
    n_latents, n_categories = c.model.latent_shape
    with tf.GradientTape() as tape:
        mean = 0
        for code in np.ndindex(*[n_categories] * n_latents):
            z = tf.tile(
                tf.constant(np.eye(n_categories)[list(code)], c.x.dtype)[None], [len(c.x), 1, 1]
            )
            r = c.model.rollout(c.x, lambda layer, logits, z=z: z)
            mean += tf.exp(r.log_q[0]) * r.objective
        loss = -tf.reduce_mean(mean)
    return gradients(tape, loss, c.model.trainable_variables), []
