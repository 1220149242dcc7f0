"""REBAR's shortcuts give what its formulas say: no coupled rollout, no gradient of a gradient."""

import itertools

import numpy as np
import pytest

from rebar import noise as noise_module
from rebar.estimators import literal_rebar
from rebar.estimators.rebar import REBAR, DynamicREBAR
from tests.conformance.cases import (
    FAMILIES,
    assert_control_descends_the_mean_square,
    float64,
    images,
    set_up,
    tensor,
    tiny_model,
)

__all__ = ["float64"]

COUPLINGS = [(True, "switch"), (True, "all"), (False, "switch")]
OTHERS = list(itertools.product((False, True), (3, 1), (True, False), (DynamicREBAR, REBAR)))
CASES = [
    pytest.param(
        *case,
        *coupling,
        *OTHERS[7 * i % len(OTHERS)],
        marks=[pytest.mark.slow] * ((i + i // 3 + i // 9) % 3 > 0),
    )
    for i, (case, coupling) in enumerate(
        itertools.product(itertools.product((1, 2, 3), FAMILIES), COUPLINGS)
    )
]
"""All of (n_layer, family, quadratic, coupling), without `quadratic` the couplings are one; with
(nonlinear, n_samples, muprop_relaxation, class) in turn. The suite runs nine that have each pair of
a number of layers, a family and a coupling."""
BATCH = 4


def problem(n_layer, family, nonlinear, n_samples, cls=DynamicREBAR, **settings):
    model = tiny_model(n_layer, family, nonlinear)
    estimator = set_up(cls(**settings), model)
    key = noise_module.key(3, "analysis", n_layer)
    noise = noise_module.latents(key, n_samples, BATCH, model.n_units, "float64")
    return model, estimator, tensor(images(BATCH)), noise


def assert_close(ours, literal, names):
    """To 1e-9 of the tensor's largest magnitude; rounding of the largest of all is allowed for."""
    largest = max(np.max(np.abs(b)) for b in literal)
    for a, b, name in zip(ours, literal, names, strict=True):
        allowed = 1e-9 * np.max(np.abs(b)) + 1e-13 * largest
        assert np.max(np.abs(a - b)) <= allowed, name


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("n_layer", "family", "quadratic", "coupling", "nonlinear", "n_samples", "muprop", "cls"), CASES
)
def test_equals_the_formulas(
    n_layer, family, quadratic, coupling, nonlinear, n_samples, muprop, cls
):
    model, estimator, x, noise = problem(
        n_layer,
        family,
        nonlinear,
        n_samples,
        cls,
        quadratic=quadratic,
        coupling=coupling,
        muprop_relaxation=muprop,
        temperature=0.6,
    )
    estimate = estimator.estimate(model, x, noise)
    g, control = literal_rebar.estimate(estimator, model, x, noise)
    assert_close(estimate.gradients, g, [v.path for v in model.trainable_variables])
    assert_close(
        estimate.control_gradients, control, [v.path for v in estimator.trainable_variables]
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("coupling", ["switch", "all"])
@pytest.mark.parametrize("n_layer", [1, 3])
def test_control_gradients_are_those_of_the_mean_square(n_layer, coupling):
    """By central differences, the temperature's included."""
    model, estimator, x, noise = problem(n_layer, "unconditional", False, 2, coupling=coupling)
    assert_control_descends_the_mean_square(estimator, model, x, noise)
