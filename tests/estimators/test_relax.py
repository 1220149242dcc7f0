"""RELAX's control variate: how it begins, and that learning it lowers the variance."""

import math

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import families
from rebar.estimators.relax import RELAX, ControlNetwork
from rebar.training.optimizers import FusedAdam
from tests.conformance.cases import flat, hparams, images, tensor, tiny_model

ROWS = 200


def test_settings_and_first_values():
    model = tiny_model(3)
    estimator = RELAX.from_hparams(hparams("SBNRelax", 3, temperature=0.2))
    estimator.setup(model)
    assert estimator.evaluations(families.shapes(model)) == 4
    draws = noise_module.latents(noise_module.key(0, "analysis"), 1, 2, model.n_units)
    estimate = estimator.estimate(model, tensor(images(2), tf.float32), draws)
    assert list(estimate.metrics) == ["temperature", "scale"]
    np.testing.assert_allclose(list(estimate.metrics.values()), [0.2, 1], rtol=1e-6)
    shapes = [tuple(r.hidden_kernel.shape) for r in estimator.networks]
    assert shapes == [(6 + 2, 137), (2 + 2, 137), (2 + 2, 137)]
    first, second = (r.hidden_kernel.numpy() for r in estimator.networks[1:])
    assert np.all(first != second)


def test_the_network():
    """By hand: one hidden unit on two inputs and one z; two copies of each example."""
    network = ControlNetwork(2, 1, hidden=1)
    for v, value in zip(
        network.trainable_variables, ([[1.0], [2], [3]], [0.5], [[10.0]], [4]), strict=True
    ):
        v.assign(value)
    inputs, z = tf.constant([[1.0, 0], [0, -1]]), tf.constant([[1.0], [-1], [-2], [2]])
    # Before LeakyReLU: 1 + .5 + 3, -2 + .5 - 3, 1 + .5 - 6, -2 + .5 + 6.
    expected = [4.5 * 10 + 4, -0.3 * 4.5 * 10 + 4, -0.3 * 4.5 * 10 + 4, 4.5 * 10 + 4]
    np.testing.assert_allclose(network(inputs, z, copies=2), expected, rtol=1e-6)


@pytest.mark.parametrize("n_layer", [1, 2])
def test_what_it_learns_lowers_the_variance(n_layer):
    """The model is fixed; V = mean g^2 over ROWS rows of one image, 200 draws."""
    model = tiny_model(n_layer)
    estimator = RELAX(temperature=0.5, hidden=20)
    estimator.setup(model)
    optimizer = FusedAdam(0.02, beta_1=0.9, beta_2=0.999, epsilon=1e-8)
    optimizer.build(estimator.trainable_variables)
    x = tensor(np.repeat(images(1), ROWS, axis=0), tf.float32)

    @tf.function(autograph=False)
    def estimate(key):
        draws = noise_module.latents(key, 1, ROWS, model.n_units)
        return estimator.estimate(model, x, draws)

    @tf.function(autograph=False)
    def learn(key):
        control = estimate(key).control_gradients
        optimizer.apply_after(tf.constant(True), control, estimator.trainable_variables)

    def variance():
        keys = [noise_module.key(1, "analysis", i) for i in range(200)]
        return np.mean(np.var([flat(estimate(key).gradients) for key in keys], axis=0))

    before = variance()
    for i in range(600):
        learn(noise_module.key(2, "analysis", i))
    after = variance()
    assert after < 0.7 * before
    assert float(estimator.scale()) != pytest.approx(1, abs=1e-3)
    assert float(estimator.log_temperature_value()) != pytest.approx(math.log(0.5), abs=1e-3)
    for network in estimator.networks:
        network.output_kernel.assign(0 * network.output_kernel)
    assert variance() > 1.3 * after, "the networks have learned nothing"
