"""Cases of the straight-through kernels, and exact expectations."""

import itertools

import numpy as np
import tensorflow as tf

from rebar import noise
from rebar.core import categorical, straight_through


def uniforms(*shape, position=0, dtype=tf.float64):
    return noise.uniforms(noise.key(3, "analysis", position), shape, dtype)


def gumbels(*shape, position=0, dtype=tf.float64):
    return categorical.gumbels(uniforms(*shape, position=position, dtype=dtype))


def exponentials(*shape, position=1, dtype=tf.float64):
    return categorical.exponentials(uniforms(*shape, position=position, dtype=dtype))


WITH_TEMPERATURE = {
    "straight_through": (),
    "straight_through_gumbel": ("gumbels",),
    "gumbel_rao": ("exponentials",),
    "gapped_straight_through": (),
    "reinmax": (),
    "reinmax_rao": ("exponentials",),
    "reinmax_cv": ("exponentials", "gumbels"),
}
"""Kernel -> its noise arguments after logits, one_hot and g."""

VARIANTS = {
    **{name: (name, {}) for name in WITH_TEMPERATURE},
    "reinmax_cv stgs": ("reinmax_cv", {"form": "stgs", "scale": 0.7}),
    "reinmax_rk2": ("reinmax_rk2", {"beta": 0.8}),
    "reinmax_rk2 released": ("reinmax_rk2", {"beta": 0.8, "form": "released"}),
}
"""A name -> kernel and options: all kernels in all forms."""


def gradient(variant, logits, one_hot, g, gumbels, exponentials, temperature=None):
    """Return a variant's kernel, by default at T = 1."""
    name, options = VARIANTS[variant]
    noises = {"gumbels": gumbels, "exponentials": exponentials}
    arguments = [noises[n] for n in WITH_TEMPERATURE.get(name, ())]
    if temperature is not None and name in WITH_TEMPERATURE:
        options = options | {"temperature": temperature}
    return getattr(straight_through, name)(logits, one_hot, g, *arguments, **options)


def samples(shape):
    """All one-hot codes of latents [L, C]: [C^L, L, C]."""
    length, n_categories = shape
    index = np.array(list(itertools.product(range(n_categories), repeat=length)))
    return np.eye(n_categories)[index]


def probabilities(logits, codes):
    """Of codes [R, L, C] under logits [L, C]: [R]."""
    pi = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return np.prod(np.sum(pi * codes, -1), -1)


class Polynomial:
    """f(z) = z'Az + c'z of codes [R, L, C] in a row, A = 0 if linear: [R]; df/dz [R, L, C]."""

    def __init__(self, shape, quadratic=True, seed=0):
        random, size = np.random.default_rng(seed), np.prod(shape)
        self.shape, self.c = shape, random.normal(size=size)
        self.a = random.normal(size=(size, size)) * quadratic

    def __call__(self, z):
        z = np.reshape(z, (len(z), -1))
        return np.einsum("ri,ij,rj->r", z, self.a, z) + z @ self.c

    def gradient(self, z):
        flat = np.reshape(z, (len(z), -1))
        return np.reshape(flat @ (self.a + self.a.T) + self.c, z.shape)

    def exact(self, logits):
        """d E f / d logits [L, C], by enumeration."""
        codes = samples(self.shape)
        q = probabilities(logits, codes) * self(codes)
        pi = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        return np.einsum("r,rlc->lc", q, codes - pi)


def expectation(kernel, f, logits):
    """The mean of kernel(logits, one_hot, g) over all codes; for kernels without noise."""
    codes = samples(f.shape)
    tiled = tf.constant(np.broadcast_to(logits, codes.shape))
    result = kernel(tiled, tf.constant(codes), tf.constant(f.gradient(codes)))
    return np.einsum("r,rlc->lc", probabilities(logits, codes), result)
