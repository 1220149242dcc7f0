"""Variances on a sigmoid belief network of 4 units and 6 pixels, by enumeration: within 1 %.

The model is that of the first image of `disarm_tiny_raw`. Estimates are affine in the scales of
DoubleCV and RODEO, and in the output layer of RODEO's network, whose best values follow from one
estimate per parameter.
"""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise as noise_module
from rebar.core import families
from rebar.estimators.arms import ARMS
from rebar.estimators.double_cv import DoubleCV
from rebar.estimators.leg import LEG
from rebar.estimators.rodeo import RODEO
from tests.estimators.test_golden_frontier import GOLDENS, Toy, enumerated, estimates

NETWORK = np.load(Path(__file__).parents[1] / "goldens" / "disarm" / "disarm_tiny_raw.npz")
EXACT = NETWORK["exact_grad"][0]


class Network(Toy):
    """f(b) = log p(x, b) - log q(b)."""

    phi = NETWORK["logits"][0]

    def rollout(self, x, sampler, n_samples=1, encoded=None):
        logits = tf.tile(self.logits, [n_samples, 1])
        b = sampler(0, logits)
        pixels = b @ NETWORK["W_dec"] + NETWORK["b_dec"]
        log_p = families.BERNOULLI.log_prob(tf.constant(NETWORK["x"][0]), pixels)
        log_p += families.BERNOULLI.log_prob(b, tf.constant(NETWORK["prior_logits"]))
        log_q = families.BERNOULLI.log_prob(b, logits)
        return rebar.Rollout(log_p - log_q, log_p, (log_q,), (logits,), (b,))


def check(g, weights, expected):
    """The exact mean, and the variance of estimates with these weights, summed over units."""
    mean = weights @ g
    np.testing.assert_allclose(mean, EXACT, rtol=0, atol=1e-12)
    assert np.sum(weights @ np.square(g - mean)) == pytest.approx(expected, rel=0.01)


def smallest(at, size, weights):
    """Estimates with the smallest variance of those that are affine in `size` parameters."""
    base = at(np.zeros(size))
    slopes = np.stack([at(row) - base for row in np.eye(size)])
    root = np.sqrt(weights)[:, np.newaxis]
    columns = np.reshape(root * slopes, [size, -1]).T
    best = np.linalg.lstsq(columns, -np.reshape(root * (base - EXACT), -1), rcond=None)[0]
    return base + np.tensordot(best, slopes, 1)


@pytest.mark.parametrize(("n_samples", "expected"), [(2, 2.328), (3, 1.130), (4, 0.742)])
def test_leave_one_out(n_samples, expected):
    uniforms, weights = enumerated(Network, n_samples)
    g = estimates(rebar.estimator("LOO", dtype="float64"), uniforms, toy=Network)
    check(g, weights, expected)


def test_leg():
    uniforms, weights = enumerated(Network, 1)
    check(estimates(LEG(dtype="float64"), uniforms, toy=Network), weights, 0.0025)


@pytest.mark.parametrize(("n_samples", "expected"), [(2, 0.0534), (3, 0.0315), (4, 0.0188)])
def test_double_cv(n_samples, expected):
    uniforms, weights = enumerated(Network, n_samples)
    estimator = DoubleCV(dtype="float64")
    estimator.setup(Network(1))

    def at(scale):
        estimator.scales[0].assign(scale[0])
        return estimates(estimator, uniforms, toy=Network)

    check(smallest(at, 1, weights), weights, expected)


@pytest.mark.parametrize(
    ("n_samples", "expected"),
    [(2, 0.158), (3, 0.096), pytest.param(4, 0.068, marks=pytest.mark.slow)],
)
def test_rodeo_of_a_linear_network(n_samples, expected):
    uniforms, weights = enumerated(Network, n_samples)
    estimator = RODEO(rodeo_hidden=2, dtype="float64")
    estimator.setup(Network(1))
    linear = [[[0, 0], [1, -1]], [0, 0], [[1 / 1.3] * 2, [-1 / 1.3] * 2], [0, 0]]
    estimator.networks[0].set_weights([np.array(value, "float64") for value in linear])

    def at(scales):
        for variable, value in zip(estimator.scales[0], scales, strict=True):
            variable.assign(value)
        return estimates(estimator, uniforms, toy=Network)

    check(smallest(at, 2, weights), weights, expected)


@pytest.mark.parametrize(
    ("n_samples", "expected"),
    [(2, 0.088), (3, 0.059), pytest.param(4, 0.043, marks=pytest.mark.slow)],
)
def test_rodeo_of_random_hidden_units(n_samples, expected):
    uniforms, weights = enumerated(Network, n_samples)
    estimator = RODEO(rodeo_hidden=8, dtype="float64")
    estimator.setup(Network(1))
    w_lin, w_f, b1 = (GOLDENS[f"rodeo_net/{name}"] for name in ("w_lin", "w_f", "b1"))
    for variable in estimator.scales[0]:
        variable.assign(1.0)

    def at(output):  # h's weights and bias, then those of the other output
        kernel, bias = np.split(np.reshape(output, [2, 9]).T, [8])
        estimator.networks[0].set_weights([np.stack([w_f, w_lin]), b1, kernel, bias[0]])
        return estimates(estimator, uniforms, toy=Network)

    check(smallest(at, 18, weights), weights, expected)


def drawn(estimator, n_samples, expected, exact=EXACT, tolerance=0.01):
    """200,000 draws: mean within 6 standard errors, the variances' sum within a tolerance."""
    rows = 200_000
    latents, further = (noise_module.key(0, stream) for stream in ("latents", "further"))
    uniforms = noise_module.uniforms(latents, [n_samples, rows, 4], "float64").numpy()
    g = estimates(estimator, uniforms, further, Network)
    error = np.std(g, axis=0) / np.sqrt(rows)
    assert np.all(np.abs(np.mean(g, axis=0) - exact) < 6 * error)
    assert np.sum(np.var(g, axis=0)) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(("pairs", "expected"), [(1, 1.775), (2, 0.888)])
def test_disarm(pairs, expected):
    drawn(rebar.estimator("DisARM", dtype="float64"), pairs, expected)


@pytest.mark.parametrize(("n", "expected"), [(2, 1.775), (3, 0.911), (4, 0.579)])
def test_arms(n, expected):
    drawn(ARMS(n, dtype="float64"), 1, expected)


@pytest.mark.parametrize(("n", "expected"), [(2, 0.306), (3, 0.183)])
def test_arms_of_the_bound(n, expected):
    """Variances of an independent computation from 200,000 draws; within 3 %."""
    estimator = ARMS(n, multi_sample=True, dtype="float64")
    drawn(estimator, 4, expected, NETWORK["exact_K4_grad"][0], 0.03)
