"""E_q f in closed form: Gaussian pixels, one layer and a linear decoder."""

import functools

import numpy as np
import pytest

from rebar import registry
from rebar.analysis import references, report
from rebar.analysis.analyzer import analyze
from rebar.core import enumeration, samplers
from rebar.errors import RebarError
from rebar.hparams import HParams
from rebar.models.categorical_vae import CategoricalVAE
from rebar.models.conditional import ConditionalSBN, SingleLayerConditional
from rebar.models.sbn import SigmoidBeliefNetwork
from rebar.noise import key, latents
from rebar.testing.problems import dtype_policy, randomize
from rebar.types import capability
from tests.conformance.cases import tensor

MEAN = np.linspace(0.2, 0.7, 6)
X = np.random.default_rng(0).random((4, 6))
SETTINGS = "task=digits_grey,likelihood=gaussian,n_samples=2,n_hidden=4"

MODELS = {
    "units": (SigmoidBeliefNetwork, ((4,), MEAN), {"prior": "uniform"}),
    "categories": (SigmoidBeliefNetwork, (((2, 3),), MEAN), {}),
    "conditional": (ConditionalSBN, (((2, 3),), MEAN), {}),
    "conditional 2017": (SingleLayerConditional, ((4,), MEAN), {}),
    "categorical VAE": (CategoricalVAE, (3, 2, MEAN, "learned"), {"hidden": ()}),
}


def make(name, **changes):
    """A model in float64 with random weights; one variance is at its floor."""
    with dtype_policy("float64"):
        cls, arguments, options = MODELS[name]
        model = cls(*arguments, **{"likelihood": "gaussian", **options, **changes})
    randomize(model.trainable_variables, 5, 0.8)
    if "likelihood" not in changes:
        rho = model.likelihood.rho
        rho.assign([-20.0, *rho.numpy()[1:]])
    return model


@pytest.mark.parametrize("name", MODELS)
def test_the_closed_form_is_the_sum_over_all_states(name):
    model = make(name)
    assert capability(model, "expected_objective") is not None
    exact, enumerated = (
        function(model, X)
        for function in (enumeration.exact_elbo_and_gradient, enumeration.elbo_and_gradient)
    )
    np.testing.assert_allclose(exact.value, enumerated.value, rtol=1e-10)
    for a, b in zip(exact.gradients, enumerated.gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
        assert np.any(b != 0)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("units", {"likelihood": "bernoulli"}),
        ("units", {"nonlinear": True}),
        ("categorical VAE", {"hidden": (3,)}),
        ("categorical VAE", {"likelihood": "bernoulli"}),
    ],
)
def test_models_without_a_closed_form_are_enumerated(name, changes):
    model = make(name, **changes)
    assert capability(model, "expected_objective") is None
    assert references.exact(model, tensor(X)).about["states"] == {"units": 16}.get(name, 9)
    two = SigmoidBeliefNetwork((3, 2), MEAN, likelihood="gaussian")
    assert two.expected_objective is None


@functools.cache
def full_size(*layer):
    """A model of 784 pixels in float32 whose posterior is not saturated, and two images."""
    rng = np.random.default_rng(1)
    model = SigmoidBeliefNetwork((layer,), np.full(784, 0.5), likelihood="gaussian")
    randomize(model.trainable_variables, 2, 0.05)
    return model, tensor(rng.random((2, 784)), "float32")


@pytest.mark.parametrize("layer", [(200,), (30, 8)])
def test_full_size_against_samples(layer):
    """The mean of 20,000 samples per image, within 5 of its standard errors."""
    model, x = full_size(*layer)
    chunks = []
    for i in range(10):
        noise = latents(key(0, "analysis", i), 2000, 2, model.n_units, "float32")
        rollout = model.rollout(x, samplers.hard(noise), 2000)
        chunks.append(np.reshape(rollout.objective, [2000, 2]))
    f = np.concatenate(chunks).astype(float)
    value = model.expected_objective(x).numpy()
    error = f.std(axis=0) / len(f) ** 0.5
    assert np.all(np.abs(f.mean(axis=0) - value) < 5 * error)
    # Without the variance of the outputs it would be far away.
    at_the_mean = model.rollout(x, samplers.mean()).objective.numpy()
    assert np.all(at_the_mean - value > 50 * error)


def analysis(model, x, settings, labels, by="weights"):
    options = {"by": by, "draws": 200, "reference": "exact", "seed": 0, "jit": False}
    hparams = HParams.parse(f"model=SBNDisARM,{SETTINGS}", settings)
    return analyze(model, x, hparams, labels, {}, **options)


def test_estimators_are_compared_with_the_truth_at_200_units():
    """No bias of DisARM within 5 standard errors; that of Gumbel-Softmax is seen."""
    model, x = full_size(200)
    record = analysis(model, x, "n_hidden=200", ["DisARM", "Gumbel"])
    assert record["reference"]["states"] is None
    assert "e is exact: in closed form" in report.table({"title": "a title", **record})
    disarm, gumbel = (record["estimators"][label] for label in ("DisARM", "Gumbel"))
    assert disarm["bias_squared"] < 5 * disarm["standard_error"]["bias_squared"]
    assert gumbel["bias_seen"]
    with pytest.raises(RebarError, match=r"VIMCO follows .* at most 262144 combinations"):
        analysis(model, x, "n_hidden=200", ["SBNVIMCO"])


def test_what_is_too_large_without_a_closed_form():
    model = SigmoidBeliefNetwork((13,), MEAN, likelihood="gaussian", nonlinear=True)
    with pytest.raises(RebarError, match=r"8192, .*linear decoder and likelihood=gaussian"):
        references.exact(model, tensor(X, "float32"))


def test_estimators_are_unbiased_for_gaussian_pixels():
    """Two layers, against enumeration: the gradient of q within 5 standard errors."""
    with dtype_policy("float64"):
        model = SigmoidBeliefNetwork((3, 2), MEAN, likelihood="gaussian", prior="uniform")
        randomize(model.trainable_variables, 5, 0.6)
        labels = ["DisARM", "DoubleCV", "RODEO", "DynamicREBAR"]
        record = analysis(model, tensor(X), "n_layer=2,n_hidden=3", labels)
    for values in record["estimators"].values():
        assert values["bias_squared"] < 5 * values["standard_error"]["bias_squared"]
        assert values["snr"] > 0.05


def test_the_exact_estimator_uses_the_closed_form():
    model, x = full_size(200)
    estimator = registry.make_estimator("CatExact", HParams(model="CatExact", latents=[200]))
    estimator.setup(model)
    assert estimator.evaluations([(200,)]) == 1
    noise = latents(key(0, "analysis", 0), 1, 2, model.n_units, "float32")
    estimate = estimator.estimate(model, x, noise)
    np.testing.assert_array_equal(estimate.objective, model.expected_objective(x))
    flat = np.concatenate([np.ravel(g) for g in estimate.gradients])
    variables = {id(v) for v in model.inference_variables}
    of_q = [id(v) in variables for v in model.trainable_variables]
    q = [np.ravel(g) for g, inside in zip(estimate.gradients, of_q, strict=True) if inside]
    truth = references.exact(model, x).gradient
    np.testing.assert_allclose(np.concatenate(q), truth, rtol=1e-3, atol=1e-4 * np.abs(flat).max())
