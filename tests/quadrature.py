"""Exact means and variances of estimators of one layer of Bernoulli units, by their noise.

As a function of a unit's uniform u, the pair b = 1[u > 1 - p], b~ = 1[u < p] changes at q and at
1 - q, q = min(p, 1 - p), and nowhere else. On each of the three intervals an estimate is a
polynomial in u of degree 1 at most (ARM), its square of degree 2: two Gauss nodes an interval
integrate both exactly.
"""

import itertools

import numpy as np
from scipy.special import expit as sigmoid

GAUSS = np.array([-1, 1]) / np.sqrt(3)


def nodes(logit):
    """Nodes [6] in (0, 1) and their weights for one unit; two for each interval, in order."""
    q = min(sigmoid(logit), sigmoid(-logit))
    middle, half = np.array([q / 2, 0.5, 1 - q / 2]), np.array([q, 1 - 2 * q, q]) / 2
    return (middle[:, np.newaxis] + half[:, np.newaxis] * GAUSS).ravel(), np.repeat(half, 2)


def product(*values):
    """All combinations [n, len(values)] of one of each."""
    return np.array(list(itertools.product(*values)))


def uniforms(logits):
    """Uniforms [n, H] and weights [n] that integrate over the noise of H units exactly."""
    each = [nodes(logit) for logit in logits]
    return product(*(u for u, _ in each)), product(*(w for _, w in each)).prod(axis=1)


def states(logits):
    """All states [2^H, H] of H units, and their probabilities."""
    b = product(*[(0.0, 1.0)] * len(logits))
    logits = np.asarray(logits)
    return b, np.where(b == 1, sigmoid(logits), sigmoid(-logits)).prod(axis=1)


def moments(values, weights):
    """Mean and variance [H] of values [n, H] with weights [n] that sum to 1."""
    assert np.isclose(weights.sum(), 1, rtol=0, atol=1e-12)
    values = np.asarray(values)
    mean = weights @ values
    return mean, weights @ np.square(values - mean)
