"""Categorical estimators: exactness for polynomials, logits, tracking, models and runs."""

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise, registry
from rebar.analysis.at_logits import AtLogits
from rebar.core import enumeration
from rebar.models.categorical_vae import CategoricalVAE
from tests.conformance import categories
from tests.conformance.cases import draw, flat, float64, images, noise_keys, tensor
from tests.digits_run import train

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")

NAMES = registry.names("categorical")


@pytest.fixture
def model():
    return categories.model()


def test_exact_is_exact(model):
    x = tensor(images(3))
    estimate = categories.estimator("CatExact", model).estimate(model, x, noise.Noise(()))
    elbo, gradients = enumeration.elbo_and_gradient(model, x)
    np.testing.assert_allclose(estimate.objective, elbo, rtol=1e-12)
    np.testing.assert_allclose(flat(estimate.gradients), flat(gradients), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "quadratic", "settings", "is_exact"),
    [
        ("CatST", False, {"temperature": 1.0}, True),
        ("CatST", True, {"temperature": 1.0}, False),
        ("CatST", False, {"temperature": 0.8}, False),
        ("CatReinMax", False, {"temperature": 1.0}, True),
        ("CatReinMax", True, {"temperature": 1.0}, True),
        ("CatReinMax", True, {"temperature": 0.8}, False),
        ("CatZGR", True, {}, True),
        ("CatReinMaxRK2", False, {"rk2_beta": 0.8}, True),
        ("CatReinMaxRK2", True, {"rk2_beta": 0.5}, True),
        ("CatReinMaxRK2", True, {"rk2_beta": 0.8}, False),
        ("CatReinMaxRK2", False, {"rk2_beta": 0.8, "rk2_form": "released"}, False),
        ("CatGST", False, {"temperature": 1.0}, False),
        ("CatReinforce", True, {}, True),
    ],
)
def test_exact_for_polynomials(name, quadratic, settings, is_exact):
    toy = categories.Polynomial(quadratic)
    mean = categories.mean_over_samples(categories.estimator(name, toy, **settings), toy)
    (truth,) = enumeration.elbo_and_gradient(toy, tensor([[1.0]])).gradients
    error = np.max(np.abs(mean - truth)) / np.max(np.abs(truth))
    assert error < 1e-12 if is_exact else error > 1e-3


def one_estimate(estimator, model, x):
    draws = draw(estimator, model, noise_keys(5, 0), 2, x.shape[0], x.dtype)
    return estimator.estimate(model, x, draws)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_at_saturated_logits(name, dtype):
    tf.keras.config.set_dtype_policy(dtype)
    model = categories.model()
    x = tf.cast(images(4), dtype)
    at_logits = AtLogits(model, x)
    scales = np.reshape([30.0, -100.0, 1e3, -1e4], [4, 1, 1])
    at_logits.table.assign(scales * np.sign(np.random.default_rng(0).normal(size=(4, 2, 3))))
    for temperature in (0.05, 1.0):
        estimator = categories.estimator(name, at_logits, temperature=temperature)
        for gradient in tf.nest.flatten(one_estimate(estimator, at_logits, x)):
            assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_logits_sum_to_zero_over_categories(name, model):
    x = tensor(images(4))
    at_logits = AtLogits(model, x)
    estimator = categories.estimator(name, at_logits)
    (gradient,) = one_estimate(estimator, at_logits, x).gradients
    np.testing.assert_allclose(np.sum(gradient, axis=-1), 0, atol=1e-12)
    assert np.max(np.abs(gradient)) > 1e-3


def test_tracked_gradients_are_those_of_each_alone(model):
    track = tuple(label for label in registry.labels("categorical") if label != "Exact")
    tracker = categories.estimator("CatTrackGradVariances", model, track=track, follow="ReinMax")
    x = tensor(images(4))
    estimate = one_estimate(tracker, model, x)
    assert list(estimate.tracked) == list(track)
    assert not tracker.unbiased
    for label in track:
        name = registry.labels("categorical")[label]
        alone = one_estimate(categories.estimator(name, model), model, x)
        np.testing.assert_allclose(flat(estimate.tracked[label]), flat(alone.gradients), atol=1e-12)
    np.testing.assert_array_equal(flat(estimate.gradients), flat(estimate.tracked["ReinMax"]))


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_a_model_comes_back_from_its_config(prior):
    model = categories.model(prior)
    again = CategoricalVAE.from_config(model.get_config())
    again.set_weights(model.get_weights())
    x = tensor(images(4))
    draws = noise.latents(noise.key(0, "evaluate", 0), 5, 4, model.n_units, tf.float64)
    np.testing.assert_array_equal(model.score(x, draws), again.score(x, draws))
    assert [v.path for v in model.variables] == [v.path for v in again.variables]


def test_a_run_comes_back_from_its_checkpoint(tmp_path):
    tf.keras.config.set_dtype_policy("float32")
    settings = {
        "n_layer": 1,
        "n_hidden": 200,
        "n_categories": 3,
        "n_latents": 2,
        "prior": "learned",
    }
    learner, data, folder = train(tmp_path, "digits_grey", 2, model="CatReinMax", **settings)
    loaded = rebar.load_model(folder)
    assert loaded.step == 2
    for before, after in zip(learner.model.variables, loaded.model.variables, strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(learner.model(data.test[:3]), loaded.model(data.test[:3]))
