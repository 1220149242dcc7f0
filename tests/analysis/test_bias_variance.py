"""Bias, variance and their standard errors, on noise that is known and on real estimators."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from rebar.analysis import references, report
from rebar.analysis.analyzer import SAMPLES, analyze
from rebar.analysis.bias_variance import Reference, estimated, measure
from rebar.analysis.meter import Meter
from rebar.core import bernoulli
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.types import Estimate
from tests.conformance import categories
from tests.conformance.cases import float64, hparams, images, tensor, tiny_model

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")

EXACT = np.array([1.0, -2.0, 0.5, 3.0])
OFFSET = np.array([0.3, 0.1, 0.0, -0.2])
DEVIATIONS = np.array([1.0, 0.5, 2.0, 0.1])
LOGISTIC = np.pi**2 / 3
"""Variance of logistic noise."""


class Line:
    """A stand-in for a model: two images, two components each."""

    n_units, compute_dtype = (2,), "float64"
    trainable_variables = inference_variables = (tf.Variable(np.zeros([2, 2])),)


class Noisy(Estimator):
    """EXACT + offset + DEVIATIONS * logistic noise."""

    def __init__(self, offset):
        super().__init__()
        self.offset = offset

    def estimate(self, model, x, noise):
        z = tf.reshape(bernoulli.logistic(noise.uniforms[0]), [-1])
        g = EXACT + self.offset + DEVIATIONS * z
        return Estimate([tf.reshape(g, [2, 2])], [], z, {})


X = tensor(np.zeros([2, 3]))
POSITION = ("analysis", 0)
TRUTH = Reference(EXACT, {})


@functools.cache
def meter_of(biased) -> Meter:
    return Meter(Line(), Noisy(OFFSET if biased else 0))


def measured(biased, n_draws, seed=0, truth=TRUTH):
    draws = meter_of(biased)(X, n_draws, seed, POSITION)
    assert draws.milliseconds > 0
    assert draws.n.sum() == n_draws
    return measure(draws, truth, images=2)


def test_known_noise():
    found = measured(True, 20_000)
    variance = LOGISTIC * np.sum(DEVIATIONS**2)
    bias, norm, mean = (np.linalg.norm(v) for v in (OFFSET, EXACT, EXACT + OFFSET))
    truth = {
        "bias": bias,
        "bias_squared": bias**2,
        "relative_bias": bias / norm,
        "expected_cosine": EXACT @ (EXACT + OFFSET) / norm / mean,
        "variance": variance,
        "relative_variance": variance / norm**2,
        "mse": variance + bias**2,
        "relative_mse": (variance + bias**2) / norm**2,
        "snr": mean / np.sqrt(variance),
    }
    for name, value in truth.items():
        assert abs(found[name] - value) < 4 * found["standard_error"][name], name
        assert found["standard_error"][name] < 0.3 * abs(value), name
    assert found["bias_seen"]


def test_the_numbers_are_those_of_numpy():
    draws = 20
    collected = []

    class Recorded(Noisy):
        def estimate(self, model, x, noise):
            estimate = super().estimate(model, x, noise)
            tf.py_function(lambda g: collected.append(g.numpy()), [estimate.gradients[0]], [])
            return estimate

    found = measure(Meter(Line(), Recorded(OFFSET))(X, draws, 3, POSITION), TRUTH, images=2)
    g = np.array(collected)[1:]  # the first one is the constant
    assert g.shape == (draws, 2, 2)
    mean, variances = g.mean(axis=0), g.var(axis=0, ddof=1)
    exact = EXACT.reshape(2, 2)
    assert found["variance"] == pytest.approx(variances.sum())
    cosine = np.sum(mean * exact) / np.linalg.norm(mean) / np.linalg.norm(exact)
    assert found["cosine"] == pytest.approx(cosine)
    ratio = np.sqrt(variances.sum(axis=1)) / np.linalg.norm(mean, axis=1)
    assert found["std_to_mean"] == pytest.approx(ratio.mean())
    square = np.sum((mean - exact) ** 2) - variances.sum() / draws
    assert found["bias_squared"] == pytest.approx(square)


def test_the_error_of_the_mean_is_no_bias():
    runs = [measured(False, 40, seed) for seed in range(60)]
    squares = np.array([run["bias_squared"] for run in runs])
    error = squares.std(ddof=1) / np.sqrt(len(runs))
    assert abs(squares.mean()) < 4 * error
    # What is left if the error of the mean is not taken off would have been seen.
    assert np.mean([run["variance"] for run in runs]) / 40 > 5 * error
    assert np.mean([run["bias_seen"] for run in runs]) < 0.25


def test_standard_errors_are_the_spread_over_seeds():
    runs = [measured(True, 400, seed) for seed in range(60)]
    for name in ("variance", "cosine", "bias_squared", "snr", "std_to_mean"):
        spread = np.std([run[name] for run in runs], ddof=1)
        stated = np.mean([run["standard_error"][name] for run in runs])
        assert 0.6 < stated / spread < 1.7, name


def test_an_estimated_reference_is_corrected_for_and_adds_to_the_errors():
    squares, stated, relative = [], [], []
    for seed in range(60):
        draws = meter_of(False)(X, 100, seed, ("analysis", 1))
        truth = estimated(draws.moments(), {}, draws)
        relative.append(np.sum((truth.gradient - EXACT) ** 2) / truth.error)
        found = measured(True, 400, seed, truth)
        squares.append(found["bias_squared"])
        stated.append(found["standard_error"]["bias_squared"])
    assert np.mean(relative) == pytest.approx(1, abs=0.5)
    spread = np.std(squares, ddof=1)
    assert abs(np.mean(squares) - OFFSET @ OFFSET) < 4 * spread / np.sqrt(60)
    assert 0.6 < np.mean(stated) / spread < 1.7


def test_more_draws_append_and_compiling_changes_nothing():
    few, many = (Meter(Line(), Noisy(OFFSET))(X, n, 0, POSITION) for n in (20, 40))
    np.testing.assert_array_equal(many.n, 2 * few.n)
    np.testing.assert_allclose(few.moments()[1], many.moments(slice(5))[1], rtol=1e-12)
    compiled = Meter(Line(), Noisy(OFFSET), jit=True)(X, 20, 0, POSITION)
    np.testing.assert_allclose(few.s, compiled.s, atol=1e-12)
    np.testing.assert_allclose(few.t, compiled.t, rtol=1e-12)


def test_effective_images():
    assert references.effective_images(np.eye(4)) == pytest.approx(4)
    assert references.effective_images(np.diag([0, 2.0, 0])) == pytest.approx(1)
    assert references.effective_images(np.diag([1.0, 1.0, 0.1])) == pytest.approx(2.02, abs=0.01)
    assert references.effective_images(np.zeros([3, 2])) == 0


def test_mistakes():
    with pytest.raises(RebarError, match=r"n_draws=19.*give 20 or more"):
        Meter(Line(), Noisy(OFFSET))(X, 19, 0)
    with pytest.raises(RebarError, match=r"all states.*16384.*--reference=loo"):
        references.exact(tiny_model(7), tensor(images(3)))


def analysis(model, by, wanted, name, **settings):
    settings = {"draws": 400, "reference": "exact", "seed": 0, "jit": False, **settings}
    hyper = categories.hparams(name) if name.startswith("Cat") else hparams(name, 1)
    return analyze(model, tensor(images(4)), hyper, wanted, {}, by=by, **settings)


@pytest.mark.parametrize("by", ["logits", "weights"])
def test_categorical_estimators_by_both_references(by):
    model = categories.model()
    exact = analysis(model, by, ["ST", "LOO", "Exact"], "CatReinMax")
    loo = analysis(model, by, ["ST"], "CatReinMax", reference="loo")
    st, other = exact["estimators"]["ST"], loo["estimators"]["ST"]
    assert st["bias_seen"]
    assert not st["unbiased"]
    assert not exact["estimators"]["LOO"]["bias_seen"]
    assert exact["estimators"]["LOO"]["evaluations"] == 2 * 4
    assert exact["estimators"]["Exact"]["relative_mse"] < 1e-20
    assert loo["reference"]["relative_error"] < 0.1
    error = np.hypot(st["standard_error"]["bias"], other["standard_error"]["bias"])
    assert abs(st["bias"] - other["bias"]) < 4 * error
    assert error < 0.5 * st["bias"]
    text = report.table({"title": "a title", **exact})
    assert ("std/mean" in text) == (by == "logits")
    assert "9 states" in text
    assert "\nST " in text
    assert "\n<: no bias detected" in text


def test_binary_estimators():
    record = analysis(tiny_model(1), "weights", [], "SBNNVIL")
    found = record["estimators"]
    assert found["VIMCO"]["objective"] == "2-sample bound"
    assert found["LocalDisARM"]["objective"] == "1-sample bound"
    assert "compared with the gradient of the 2-sample bound: VIMCO" in report.table(
        {"title": "a title", **record}
    )
    assert {"NVIL", "REBAR", "RELAX", "DisARM", "LocalDisARM", "LOO"} <= set(found)
    assert found["Gumbel"]["bias_seen"]
    assert found["NVIL"]["control"] == "initial"
    assert found["LOO"]["control"] == "none"
    unseen = [n for n, values in found.items() if values["unbiased"] and not values["bias_seen"]]
    assert len(unseen) >= len(found) - 3
    for values in found.values():
        if values["unbiased"]:
            assert values["bias_squared"] < 5 * values["standard_error"]["bias_squared"]


def test_a_reference_has_its_own_draws():
    """LOO of the reference's number of samples would equal it if they shared their noise."""
    settings = hparams("SBNReinforceLOO", 1, n_samples=SAMPLES)
    options = {"by": "weights", "draws": 40, "reference": "loo", "seed": 0, "jit": False}
    record = analyze(tiny_model(1), tensor(images(2)), settings, ["LOO"], {}, **options)
    loo = record["estimators"]["LOO"]
    # The square of the distance of two means of 40 draws.
    distance = loo["bias_squared"] + loo["variance"] / 40 + record["reference"]["error"]
    assert 0.2 < distance / (2 * loo["variance"] / 40) < 5


def test_what_cannot_be_chosen():
    with pytest.raises(RebarError, match="'ST' cannot be used with a model of bernoulli latents"):
        analysis(tiny_model(1), "weights", ["ST"], "SBNNVIL")
    with pytest.raises(RebarError, match=r"VIMCO follows the 2-sample bound.*--reference=exact"):
        analysis(tiny_model(1), "weights", ["SBNVIMCO"], "SBNNVIL", reference="loo")
    with pytest.raises(RebarError, match=r"2-sample bound.* at most 262144 combinations"):
        analysis(tiny_model(5), "weights", ["SBNVIMCO"], "SBNNVIL")
    with pytest.raises(RebarError, match="--by=weights"):
        analysis(tiny_model(1), "logits", [], "SBNNVIL")
