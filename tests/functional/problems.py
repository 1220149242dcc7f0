"""Small problems, their exact expectations, and uniforms that integrate an estimate exactly.

An estimate from values of f is piecewise polynomial in the uniforms: constant or linear between the
points where a sample or its antithetic one changes. Gauss-Legendre nodes between these points give
its mean and variance without any error of sampling.
"""

import itertools
from pathlib import Path

import numpy as np
import tensorflow as tf

import rebar

GOLDENS = Path(__file__).parents[1] / "goldens" / "disarm"
TINY = np.load(GOLDENS / "disarm_tiny_raw.npz")
TOY = np.load(GOLDENS / "disarm_toy.npz")


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


def states(n_units):
    """All binary vectors: [2^H, H]."""
    return np.array(list(itertools.product((0.0, 1.0), repeat=n_units)))


def probabilities(logits):
    """Of `states`: [2^H]."""
    b, p = states(len(logits)), sigmoid(logits)
    return np.prod(np.where(b == 1, p, 1 - p), axis=1)


def exact(f, logits):
    """E f and d E f / d logits [H], by enumeration."""
    b = states(len(logits))
    weighted = np.asarray(f(tf.constant(b))) * probabilities(logits)
    return weighted.sum(), weighted @ (b - sigmoid(logits))


def table(n_units, seed=0):
    """A function on {0, 1}^H without any structure, and without a derivative."""
    values = tf.constant(np.random.default_rng(seed).normal(size=2**n_units))
    place = tf.constant(2.0 ** np.arange(n_units), tf.float64)

    def f(b):
        index = tf.reduce_sum(tf.cast(b, tf.float64) * place, axis=1)
        return tf.gather(values, tf.cast(index, tf.int32))

    return f


def quadratic(a, c, k):
    """b' A b + c' b + k."""

    def f(b):
        return tf.einsum("ni,ij,nj->n", b, a, b) + tf.linalg.matvec(b, c) + k

    return f


def golden_toy(name):
    """f and logits of a case of the goldens."""
    if name == "sum45_h4":
        return lambda b: tf.reduce_sum((b - 0.45) ** 2, axis=1), TOY["sum45_h4_logits"]
    a, c, k = (TOY[f"{name}_{part}"] for part in "Ack")
    return quadratic(a, c, k), TOY[f"{name}_logits"]


def product_grid(nodes, weights):
    """From nodes and weights of each unit, [N, H] and [N] of their product."""
    u = np.stack([g.ravel() for g in np.meshgrid(*nodes, indexing="ij")], axis=1)
    w = [g.ravel() for g in np.meshgrid(*weights, indexing="ij")]
    return u, np.prod(w, axis=0)


def between(points, n):
    """n Gauss-Legendre nodes between each two neighbours of `points`, and their weights."""
    x, w = np.polynomial.legendre.leggauss(n)
    nodes, weights = [], []
    for low, high in itertools.pairwise(points):
        nodes.append(low + (high - low) * (x + 1) / 2)
        weights.append((high - low) * w / 2)
    return np.concatenate(nodes), np.concatenate(weights)


def antithetic_grid(logits, n=2):
    """Uniforms [N, H] and weights [N]: n nodes between the points where b or b~ changes."""
    p = sigmoid(logits)
    grids = [between(sorted({0.0, q, 1 - q, 1.0}), n) for q in p]
    return product_grid(*zip(*grids, strict=True))


def one_sided_grid(logits, n):
    """Uniforms [N, H] and weights [N]: n nodes where a unit is off and n where it is on."""
    grids = [between((0.0, 1 - q, 1.0), n) for q in sigmoid(logits)]
    return product_grid(*zip(*grids, strict=True))


def outcomes(logits, n_samples):
    """Uniforms [K, N, H] that take K samples through all combinations, and weights [N]."""
    b, q = states(len(logits)), probabilities(logits)
    p = sigmoid(logits)
    u = np.where(b == 1, 1 - p / 2, (1 - p) / 2)
    chosen = np.array(list(itertools.product(range(len(b)), repeat=n_samples)))
    return u[chosen].transpose(1, 0, 2), np.prod(q[chosen], axis=1)


def moments(method, f, logits, u, weights, **options):
    """Mean and variance [H] of the estimate of the gradient over rows of uniforms."""
    rows = tf.tile(tf.constant(logits, tf.float64)[tf.newaxis], [len(weights), 1])
    g = rebar.estimate_gradient(method, f, rows, noise=u, **options).gradient.numpy()
    mean = weights @ g
    return mean, weights @ (g - mean) ** 2
