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


def softmax(x):
    x = np.asarray(x)
    return np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True)


def states(logits):
    """All samples: [2^H, H], or one-hot [C^V, V, C], for logits [H] or [V, C]."""
    if np.ndim(logits) == 1:
        return np.array(list(itertools.product((0.0, 1.0), repeat=len(logits))))
    variables, categories = np.shape(logits)
    return np.eye(categories)[list(itertools.product(range(categories), repeat=variables))]


def means(logits):
    return sigmoid(logits) if np.ndim(logits) == 1 else softmax(logits)


def probabilities(logits):
    """Return probabilities of `states`."""
    b, p = states(logits), means(logits)
    if np.ndim(logits) == 1:
        return np.prod(np.where(b == 1, p, 1 - p), axis=1)
    return np.prod(np.sum(b * p, axis=-1), axis=1)


def exact(f, logits):
    """E f and d E f / d logits, by enumeration."""
    b = states(logits)
    weighted = np.asarray(f(tf.constant(b))) * probabilities(logits)
    return weighted.sum(), np.tensordot(weighted, b - means(logits), 1)


def table(*shape, seed=0):
    """A function on {0, 1}^H, or on V one-hot vectors, without structure and derivative."""
    n_categories = shape[1] if len(shape) > 1 else 2
    values = tf.constant(np.random.default_rng(seed).normal(size=n_categories ** shape[0]))
    place = tf.constant(n_categories ** np.arange(shape[0]))

    def f(b):
        index = tf.cast(b, tf.int64) if len(shape) == 1 else tf.argmax(b, axis=-1)
        return tf.gather(values, tf.reduce_sum(index * place, axis=1))

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
    """Uniforms [K, N, ...] that take K samples through all combinations, and weights [N]."""
    b, q, p = states(logits), probabilities(logits), means(logits)
    if np.ndim(logits) == 1:
        u = np.where(b == 1, 1 - p / 2, (1 - p) / 2)
    else:
        u = np.where(b == 1, 1 - 1e-12, 0.5)
    chosen = np.array(list(itertools.product(range(len(b)), repeat=n_samples)))
    return np.swapaxes(u[chosen], 0, 1), np.prod(q[chosen], axis=1)


def simplex_grid(logits, n):
    """Uniforms u and v [N, 1, C] and weights [N], for logits [1, C].

    Given each category, v is a product of tanh-sinh rules on (0, 1), and the noise of u is that
    with 1 - v, which has the same weights.
    """
    t = np.linspace(-2.9, 2.9, n)
    x = sigmoid(np.pi * np.sinh(t))
    w = np.pi * np.cosh(t) * x * (1 - x) * (t[1] - t[0])
    (row,) = np.asarray(logits)
    grid, weights = product_grid([x] * len(row), [w] * len(row))
    e = -np.log(1 - grid)
    u, v, total = [], [], []
    for category, p in enumerate(softmax(row)):
        top = np.log(np.sum(np.exp(row))) - np.log(e[:, category])
        c = -np.log(e / np.exp(row) + np.exp(-top)[:, np.newaxis])
        c[:, category] = top
        u.append(np.exp(-np.exp(row - c)))
        v.append(grid)
        total.append(p * weights)
    return *(np.concatenate(part)[:, np.newaxis] for part in (u, v)), np.concatenate(total)


def moments(method, f, logits, u, weights, **options):
    """Mean and variance of the estimate of the gradient over rows of uniforms."""
    rows = np.broadcast_to(np.asarray(logits), [len(weights), *np.shape(logits)])
    family = "bernoulli" if np.ndim(logits) == 1 else "categorical"
    g = rebar.estimate_gradient(method, f, rows, family=family, noise=u, **options).gradient.numpy()
    mean = np.tensordot(weights, g, 1)
    return mean, np.tensordot(weights, (g - mean) ** 2, 1)
