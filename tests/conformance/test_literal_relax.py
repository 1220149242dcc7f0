"""RELAX's shortcuts give what its formulas say, and the formulas what the DisARM code computes."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import bernoulli, samplers
from rebar.estimators import literal_relax
from rebar.estimators.relax import RELAX
from rebar.models.sbn import SigmoidBeliefNetwork
from rebar.noise import Noise
from tests.conformance.cases import (
    FAMILIES,
    assert_control_descends_the_mean_square,
    float64,
    images,
    set_up,
    tensor,
    tiny_model,
)
from tests.conformance.faults.relaxations import ForgetsTheDirectPath, hard_above

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")

GOLDEN = Path(__file__).parents[1] / "goldens" / "disarm" / "disarm_tiny_raw.npz"
BATCH = 4
CASES = [
    (n_layer, family, nonlinear, n_samples)
    for (n_layer, family), (nonlinear, n_samples) in zip(
        itertools.product((1, 2, 3), FAMILIES),
        itertools.cycle([(False, 1), (True, 3), (False, 3), (True, 1), (False, 1)]),
        strict=False,
    )
]


def problem(n_layer, family="unconditional", nonlinear=False, n_samples=2, cls=RELAX):
    model = tiny_model(n_layer, family, nonlinear)
    estimator = set_up(cls(temperature=0.6, hidden=7), model)
    key = noise_module.key(3, "analysis", n_layer)
    noise = noise_module.latents(key, n_samples, BATCH, model.n_units, "float64")
    return model, estimator, tensor(images(BATCH)), noise


def largest_error(ours, literal):
    """Over all tensors, relative to the largest magnitude of each; rounding is allowed for."""
    largest = max(np.max(np.abs(b)) for b in literal)
    return max(
        np.max(np.abs(a - b)) / (np.max(np.abs(b)) + 1e-4 * largest)
        for a, b in zip(ours, literal, strict=True)
    )


def errors(model, estimator, x, noise):
    """Of the gradient and of what the estimator learns."""
    estimate = estimator.estimate(model, x, noise)
    g, control = literal_relax.estimate(estimator, model, x, noise)
    return largest_error(estimate.gradients, g), largest_error(estimate.control_gradients, control)


@pytest.mark.parametrize(("n_layer", "family", "nonlinear", "n_samples"), CASES)
def test_equals_the_formulas(n_layer, family, nonlinear, n_samples):
    case = problem(n_layer, family, nonlinear, n_samples)
    assert max(errors(*case)) < 1e-9


@pytest.mark.parametrize("n_layer", [1, 3])
def test_control_gradients_are_those_of_the_mean_square(n_layer):
    """By central differences along a random direction in each tensor."""
    model, estimator, x, noise = problem(n_layer)
    assert_control_descends_the_mean_square(estimator, model, x, noise)


def test_faults_are_caught(monkeypatch):
    """Faults that the comparison with the formulas must detect."""
    assert min(errors(*problem(1, cls=ForgetsTheDirectPath))) > 1e-3
    true = bernoulli.coupling_derivative
    for factor in (0, -1):
        with monkeypatch.context() as patch:
            patch.setattr(bernoulli, "coupling_derivative", lambda *a, f=factor: f * true(*a))
            assert min(errors(*problem(1))) > 1e-3
    monkeypatch.setattr(samplers, "relaxed", hard_above(samplers.relaxed))
    assert max(errors(*problem(1))) < 1e-9
    assert min(errors(*problem(2))) > 1e-3


# The DisARM authors' numbers, with noise w that is independent of u.


@pytest.fixture
def golden():
    with np.load(GOLDEN) as data:
        return {key: np.asarray(data[key], np.float64) for key in data.files}


@pytest.fixture
def golden_model(golden):
    """The recorded network, whose decoder takes b instead of our 2 b - 1."""
    model = SigmoidBeliefNetwork((4,), np.zeros(6))
    decoder = golden["W_dec"] / 2
    values = {
        "prior": [golden["prior_logits"]],
        "recognition": [golden["W_enc"], golden["b_enc"]],
        "generator": [decoder, golden["b_dec"] + decoder.sum(axis=0) - model.generator.output_bias],
    }
    for name, arrays in values.items():
        for v, value in zip(getattr(model, name).trainable_variables, arrays, strict=True):
            v.assign(value)
    return model


NETWORK = ("nn_W1", "nn_b1", "nn_W2", "nn_b2")


def golden_arguments(golden, name, rows=slice(None)):
    """Arguments of `literal_relax.parts` after the model."""
    u, w = (tensor(golden[f"relax_{key}"][rows]) for key in "uv")
    shape = {"nn_W1": (10, 5), "nn_b1": (5,), "nn_W2": (5, 1), "nn_b2": (1,)}
    networks = [[tensor(golden.get(f"{name}_{key}", np.zeros(shape[key]))) for key in NETWORK]]
    log_temperature = tf.math.log(tensor(golden[f"{name}_temperature"]))
    scale = tensor(golden[f"{name}_scaling"])
    return [tensor(golden["x"][rows]), Noise((u,)), log_temperature, scale, networks, [w]]


def close(ours, expected, relative):
    error = np.max(np.abs(np.subtract(ours, expected))) / np.max(np.abs(expected))
    assert error < relative, f"{error:.1e} of the largest magnitude"


@pytest.mark.parametrize("name", ["relax", "rebar"])
def test_formulas_against_the_disarm_code_row_by_row(name, golden, golden_model):
    """The derivative by the logits is minus that by the encoder's bias, of one image alone."""
    for row in range(3):
        arguments = golden_arguments(golden, name, slice(row, row + 1))
        bias = golden_model.recognition.trainable_variables[1]
        index = [v is bias for v in golden_model.trainable_variables].index(True)
        score, reparameterized, _ = (
            -part[index].numpy() for part in literal_relax.parts(golden_model, *arguments)
        )
        close(score, golden[f"{name}_grad_score_part"][row], 2e-6)
        close(reparameterized, golden[f"{name}_grad_reparam_part_f64"][row], 1e-7)
        close(score + reparameterized, golden[f"{name}_grad_f64"][row], 1e-7)


@pytest.mark.parametrize("name", ["relax", "rebar"])
def test_objective_against_the_disarm_code(name, golden, golden_model):
    """Gradients of the sum of squares of the encoder's, themselves summed over the batch."""
    arguments = golden_arguments(golden, name)
    log_temperature, scale, networks = arguments[2:5]
    sources = [log_temperature, scale, *networks[0]]
    encoder = {id(v) for v in golden_model.inference_variables}
    with tf.GradientTape() as tape:
        tape.watch(sources)
        g = literal_relax.gradient(golden_model, *arguments)
        kept = zip(golden_model.trainable_variables, g, strict=True)
        kernel, bias = (3 * value for v, value in kept if id(v) in encoder)
        total = tf.reduce_sum(kernel**2) + tf.reduce_sum(bias**2)
    close(kernel, golden[f"{name}_dW_enc_loss"], 2e-6)
    close(bias, golden[f"{name}_db_enc_loss"], 2e-6)
    learned = tape.gradient(total, sources)
    names = ["log_temperature", "scaling", *(NETWORK if name == "relax" else ())]
    for key, value in zip(names, learned, strict=False):
        close(value, golden[f"{name}_dtheta_sumsq_encgrad_{key}"], 5e-5)
