"""Golden means and variances: DoubleCV, RODEO, ARMS and LEG, and the multi-sample bound."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise as noise_module
from rebar.core import families
from rebar.core.logit_gradients import arms_correction
from rebar.estimators.arms import ARMS
from rebar.estimators.double_cv import DoubleCV
from rebar.estimators.leg import LEG
from rebar.estimators.ovis import OVIS
from rebar.estimators.rodeo import RODEO
from rebar.estimators.rws import RWS
from rebar.estimators.vimco import VIMCO

GOLDENS = np.load(Path(__file__).parents[1] / "goldens" / "frontier" / "frontier_quad_h4.npz")
PHI = GOLDENS["quad_h4/phi"]
BOUND = np.load(Path(__file__).parents[1] / "goldens" / "k_sample" / "bound_toy.npz")


class Toy:
    """Logits per row, the variable."""

    compute_dtype = "float64"

    def __init__(self, rows):
        self.logits = tf.Variable(np.tile(self.phi, [rows, 1]))
        self.trainable_variables = [self.logits]
        self.n_units = (len(self.phi),)


class Quadratic(Toy):
    """f(b) = b' A b + c' b + k."""

    phi = PHI

    def rollout(self, x, sampler, n_samples=1, encoded=None):
        logits = tf.tile(self.logits, [n_samples, 1])
        b = sampler(0, logits)
        a, c, k = (tf.constant(GOLDENS[f"quad_h4/{name}"]) for name in "Ack")
        f = tf.einsum("ni,ij,nj->n", b, a, b) + tf.linalg.matvec(b, c) + k
        log_q = families.BERNOULLI.log_prob(b, logits)
        return rebar.Rollout(f, f, (log_q,), (logits,), (b,))


class Ratio(Toy):
    """f(b) = log p(b) - log q(b) of two units."""

    phi = BOUND["h2/phi"]

    def rollout(self, x, sampler, n_samples=1, encoded=None):
        logits = tf.tile(self.logits, [n_samples, 1])
        b = sampler(0, logits)
        distance = tf.reduce_sum(tf.abs(b[:, tf.newaxis] - BOUND["h2/states"]), axis=-1)
        log_p = tf.gather(tf.constant(BOUND["h2/log_p"]), tf.argmin(distance, axis=1))
        log_q = families.BERNOULLI.log_prob(b, logits)
        return rebar.Rollout(log_p - log_q, log_p, (log_q,), (logits,), (b,))


def estimates(estimator, uniforms, key=None, toy=Quadratic):
    """Gradient per row [rows, H], for ascent; uniforms [K, rows, H]."""
    n_samples, rows, units = uniforms.shape
    model = toy(rows)
    noise = rebar.Noise((tf.constant(uniforms.reshape(-1, units)),), n_samples, key=key)
    (gradient,) = estimator.estimate(model, None, noise).gradients
    return -rows * gradient.numpy()


def enumerated(toy, n_samples):
    """Uniforms [K, rows, H] of all states of K samples, and their probabilities [rows]."""
    states = np.array(list(itertools.product((0.0, 1.0), repeat=len(toy.phi))))
    p = 1 / (1 + np.exp(-toy.phi))
    q = np.prod(np.where(states == 1, p, 1 - p), axis=1)
    of_state = np.where(states == 1, 1 - p / 2, (1 - p) / 2)
    index = np.array(list(itertools.product(range(len(q)), repeat=n_samples))).T
    return of_state[index], np.prod(q[index], axis=0)


def moments(estimator, n_samples, toy=Quadratic):
    """Exact mean and variance."""
    uniforms, weights = enumerated(toy, n_samples)
    g = estimates(estimator, uniforms, toy=toy)
    mean = weights @ g
    return mean, weights @ g**2 - mean**2


def check(estimator, n_samples, name):
    mean, variance = moments(estimator, n_samples)
    np.testing.assert_allclose(mean, GOLDENS["quad_h4/exact_grad"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(variance, GOLDENS[f"quad_h4/var/{name}"], rtol=1e-6)


def check_drawn(g, name):
    error = np.std(g, axis=0) / np.sqrt(len(g))
    assert np.all(np.abs(np.mean(g, axis=0) - GOLDENS["quad_h4/exact_grad"]) < 6 * error)
    variance, expected = np.var(g, axis=0), GOLDENS[f"quad_h4/var/{name}"]
    np.testing.assert_allclose(variance, expected, rtol=0.04)
    assert np.sum(variance) == pytest.approx(np.sum(expected), rel=0.01)


@pytest.mark.parametrize("n_samples", [2, 3])
@pytest.mark.parametrize("scale", ["alpha_opt", "alpha-1"])
def test_double_cv(n_samples, scale):
    estimator = DoubleCV(dtype="float64")
    estimator.setup(Quadratic(1))
    optimum = GOLDENS[f"quad_h4/double_cv_K{n_samples}_alpha_opt"]
    estimator.scales[0].assign(optimum if scale == "alpha_opt" else -1.0)
    check(estimator, n_samples, f"double_cv_K{n_samples}_{scale}")


@pytest.mark.parametrize("n_samples", [2, 3])
@pytest.mark.parametrize("kind", ["fixednet", "optout", "linear"])
def test_rodeo(n_samples, kind):
    estimator = RODEO(rodeo_hidden=2 if kind == "linear" else 8, dtype="float64")
    estimator.setup(Quadratic(1))
    scales, (network,) = [1.0, 1.0], estimator.networks
    if kind == "linear":  # two units of slope 0.3 are linear
        scales = GOLDENS[f"quad_h4/rodeo_K{n_samples}_linear_alpha_beta"]
        weights = [[[0, 0], [1, -1]], [0, 0], [[1 / 1.3] * 2, [-1 / 1.3] * 2], [0, 0]]
    else:
        w_lin, w_f, b1, w2, b2 = (
            GOLDENS[f"rodeo_net/{name}"] for name in ("w_lin", "w_f", "b1", "W2", "b2")
        )
        if kind == "optout":
            theta = GOLDENS[f"quad_h4/rodeo_K{n_samples}_optout_theta"].reshape(2, 9)
            w2, b2 = theta[:, :8].T, theta[:, 8]
        weights = [[w_f, w_lin], b1, w2, b2]
    for variable, value in zip([*estimator.scales[0]], scales, strict=True):
        variable.assign(value)
    network.set_weights([np.array(value, "float64") for value in weights])
    check(estimator, n_samples, f"rodeo_K{n_samples}_{kind}")


@pytest.mark.parametrize("n", [2, 3, 4])
def test_arms(n):
    """400,000 draws: mean within 6 standard errors, variances within 4 %, their sum within 1 %."""
    np.testing.assert_allclose(
        arms_correction(tf.constant(PHI), n), GOLDENS[f"quad_h4/arms_coef_n{n}"], rtol=1e-7
    )
    rows = 400_000
    uniforms = noise_module.uniforms(noise_module.key(0, "latents"), [1, rows, 4], "float64")
    g = estimates(ARMS(n, dtype="float64"), uniforms.numpy(), noise_module.key(0, "further"))
    check_drawn(g, f"arms_n{n}")


def test_leg():
    check(LEG(dtype="float64"), 1, "leg")


def test_two_antithetic_samples_are_disarm():
    uniforms = noise_module.uniforms(noise_module.key(0, "latents"), [1, 50, 4], "float64").numpy()
    arms = estimates(ARMS(2, dtype="float64"), uniforms, noise_module.key(0, "further"))
    disarm = estimates(rebar.estimator("DisARM", dtype="float64"), uniforms)
    np.testing.assert_allclose(arms, disarm, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_samples", [2, 3, 5])
@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (VIMCO(dtype="float64"), "vimco_geometric"),
        (VIMCO(vimco_mean="arithmetic", dtype="float64"), "vimco_arithmetic"),
        (OVIS(dtype="float64"), "ovis_gamma0"),
        (OVIS(ovis_gamma=1.0, dtype="float64"), "ovis_gamma1"),
        (RWS(dtype="float64"), "rws_wake_phi"),
    ],
    ids=str,
)
def test_bound(estimator, name, n_samples):
    mean, variance = moments(estimator, n_samples, Ratio)
    np.testing.assert_allclose(mean, BOUND[f"h2/K{n_samples}/{name}/mean"], atol=1e-9)
    bias = np.max(np.abs(mean - BOUND[f"h2/K{n_samples}/exact_gradient"]))
    assert bias < 1e-9 if estimator.unbiased else bias > 0.01
    np.testing.assert_allclose(variance, BOUND[f"h2/K{n_samples}/{name}/variance"], rtol=1e-9)


@pytest.mark.parametrize(("n_samples", "relative_bias"), [(2, 0.94), (3, 1.94), (5, 3.90)])
def test_the_bias_of_ovis_is_the_wake_phase_of_q(n_samples, relative_bias):
    estimators = (VIMCO(dtype="float64"), RWS(dtype="float64"))
    vimco, wake = (moments(estimator, n_samples, Ratio)[0] for estimator in estimators)
    size = np.linalg.norm(BOUND[f"h2/K{n_samples}/exact_gradient"])
    assert np.linalg.norm(wake) / size == pytest.approx(relative_bias, abs=0.005)
    for gamma in (0.3, 1.0):
        mean, _ = moments(OVIS(ovis_gamma=gamma, dtype="float64"), n_samples, Ratio)
        np.testing.assert_allclose(mean, vimco + gamma * wake, rtol=0, atol=1e-12)
