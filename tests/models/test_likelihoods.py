"""Likelihoods of pixels, and models of grayscale images with Gaussian pixels."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from rebar import noise
from rebar.core import enumeration, samplers
from rebar.errors import RebarError
from rebar.models import likelihoods
from rebar.models.categorical_vae import CategoricalVAE
from rebar.models.conditional import ConditionalSBN, SingleLayerConditional
from rebar.models.likelihoods import Bernoulli, Gaussian
from rebar.models.sbn import SigmoidBeliefNetwork
from tests.conformance.cases import float64, randomize, tensor
from tests.conformance.literal import models

__all__ = ["float64"]

MEAN = np.linspace(0.2, 0.7, 6)
X = np.random.default_rng(0).random((4, 6))


def gaussian():
    """Variances of softplus(rho), the last two at the floor."""
    likelihood = Gaussian(6, dtype="float64")
    likelihood.rho.assign([-0.5, 1.0, -2.0, 0.3, -6.95, -20.0])
    return likelihood


def test_the_density_is_that_of_scipy():
    """Density of pixels in [-1, 1]; the floor is .001, which softplus(-6.95) does not reach."""
    likelihood = gaussian()
    outputs = np.random.default_rng(1).normal(size=(4, 6))
    v = np.maximum(np.log1p(np.exp(likelihood.rho.numpy())), 0.001)
    assert np.count_nonzero(v == 0.001) == 2
    expected = stats.norm(outputs, np.sqrt(v)).logpdf(2 * X - 1).sum(axis=1)
    np.testing.assert_allclose(
        likelihood.log_prob(tensor(X), tensor(outputs)), expected, rtol=1e-12
    )
    assert np.log1p(np.exp(likelihoods.RHO)) == pytest.approx(0.474, abs=1e-3)
    np.testing.assert_array_equal(Gaussian(3).rho, [-0.5] * 3)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
def test_all_pairs(kind):
    likelihood = gaussian() if kind == "gaussian" else Bernoulli()
    outputs = np.random.default_rng(1).normal(size=(3, 6))
    pairs = likelihood.of_pairs(tensor(X), tensor(outputs))
    for m, row in enumerate(outputs):
        expected = likelihood.log_prob(tensor(X), tensor([row] * 4))
        np.testing.assert_allclose(pairs[:, m], expected, rtol=1e-11)


def test_means_are_on_the_scale_of_the_images():
    likelihood = gaussian()
    outputs = tensor([[-1.5, -1, 0, 0.5, 1, 2]])
    np.testing.assert_array_equal(likelihood.mean(outputs), [[0, 0, 0.5, 0.75, 1, 1]])
    x = tensor(X)
    np.testing.assert_allclose(likelihood.mean(likelihood.modeled(x)), X, rtol=1e-12)
    np.testing.assert_allclose(Bernoulli().mean(tensor(likelihoods.output_bias(MEAN))), MEAN)


def test_unknown():
    with pytest.raises(RebarError, match="likelihood='normal': choose from bernoulli, gaussian"):
        SigmoidBeliefNetwork((2,), MEAN, likelihood="normal")


def random_model(make, *arguments, **options):
    model = make(*arguments, MEAN, likelihood="gaussian", **options)
    randomize(model.trainable_variables, 5, 0.5)
    return model


@pytest.mark.parametrize(
    ("make", "kind"), [(ConditionalSBN, "multilayer"), (SingleLayerConditional, "2017")]
)
def test_conditional_models(float64, make, kind):
    """Their settings have no task with grayscale images; the others are in test_model_settings."""
    model = random_model(make, (3, 2))
    draws = noise.latents(noise.key(1, "analysis", 0), 2, 4, (3, 2), "float64")
    f, _, _ = models.evaluate(
        model,
        X,
        models.of_uniforms([u.numpy() for u in draws.uniforms]),
        2,
        kind,
        "tanh",
        "gaussian",
    )
    rollout = model.rollout(tensor(X), samplers.hard(draws), 2)
    np.testing.assert_allclose(rollout.objective, f.reshape(-1), rtol=1e-10)
    for pixels in (model.sample(draws, X), model.reconstruct(X, draws)):
        assert pixels.shape == (8, 3)


@pytest.mark.parametrize("make", [SigmoidBeliefNetwork, CategoricalVAE])
def test_densities_integrate_to_one(float64, make):
    """Over a grid of two pixels in [-9, 9]."""
    mean = MEAN[:2]
    if make is CategoricalVAE:
        model = make(2, 2, mean, hidden=(3,), likelihood="gaussian")
    else:
        model = make((2,), mean, likelihood="gaussian")
    randomize(model.trainable_variables, 5, 0.5)
    grid = np.linspace(-9, 9, 181)
    pixels = np.array(list(itertools.product(grid, grid)))
    x = tensor((pixels + 1) / 2)
    if make is CategoricalVAE:
        model.rollout = rollout_of_weights(model.rollout)
    density = np.exp(enumeration.log_marginal(model, x))
    assert np.sum(density) * (grid[1] - grid[0]) ** 2 == pytest.approx(1, abs=1e-6)


def rollout_of_weights(rollout):
    """Let f be the weight of the bound."""

    def changed(*arguments):
        result = rollout(*arguments)
        return result._replace(objective=result.log_weight)

    return changed


def test_a_fixed_prior_is_uniform_and_not_trained():
    model = SigmoidBeliefNetwork((3, (2, 4)), MEAN, prior="uniform")
    names = [v.path for v in model.trainable_variables]
    assert not any("prior" in name for name in names)
    assert model.prior_variables == []
    (logits,) = model.prior_logits(tensor(X)).numpy()
    np.testing.assert_array_equal(logits, np.zeros((2, 4)))
    learned = SigmoidBeliefNetwork((3, (2, 4)), MEAN)
    assert [v.path for v in learned.trainable_variables] == ["prior/logits", *names]
    for make, message in (
        (ConditionalSBN, "prior=uniform: unsupported by conditional models"),
        (SigmoidBeliefNetwork, "prior='flat': choose from uniform, learned"),
    ):
        with pytest.raises(RebarError, match=message):
            make((3,), MEAN, prior="flat" if "flat" in message else "uniform")


@pytest.mark.parametrize("make", [SigmoidBeliefNetwork, CategoricalVAE])
def test_config_round_trip_and_variables(make):
    sizes = (3, 2) if make is CategoricalVAE else ((3, 2),)
    model = make(*sizes, MEAN, likelihood="gaussian", prior="uniform", seed=9)
    copy = make.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    assert [v.path for v in copy.variables] == [v.path for v in model.variables]
    assert "likelihood/rho" in [v.path for v in model.trainable_variables]
    assert id(model.likelihood.rho) not in set(map(id, model.inference_variables))


def test_the_input_of_the_encoder_is_the_modeled_image():
    """Pixels in [-1, 1], without a mean removed, as in the published protocol."""
    model = random_model(SigmoidBeliefNetwork, (3,))
    kernel, bias = (v.numpy() for v in model.inference_variables)
    encoded = model.encode(tensor(X, tf.float32))
    np.testing.assert_allclose(encoded, (2 * X - 1) @ kernel + bias, rtol=1e-4, atol=1e-5)
