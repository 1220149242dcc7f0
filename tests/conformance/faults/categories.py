"""Estimators for categorical layers."""

import pytest
import tensorflow as tf

from rebar.core import families, local_expectation, samplers
from rebar.core import straight_through as kernels
from rebar.estimators.redge import ReDGE
from rebar.models.networks import Transformation
from rebar.objectives.model import ObjectiveModel
from rebar.testing.problems import dtype_policy
from tests.conformance import test_settings
from tests.conformance.faults.planting import (
    Fault,
    Float64,
    biased,
    fails,
    module_with,
    replace,
    times,
)
from tests.conformance.literal import models
from tests.models import test_posterior_temperature

ONE_LAYER = "unbiased: categorical, 1 layer"
TWO_LAYERS = "unbiased: categorical layers, 2 layers"


def divided_by_models():
    """Belief networks do not divide logits by the temperature of the posterior."""
    test = Float64(test_posterior_temperature).test_models_divide_the_logits_of_q
    with pytest.MonkeyPatch.context() as patch:
        test("digits", ("2x3",), False, patch)


def another_formula_at(name, parameter, value):
    """The estimate is not that of the formula at a value of a setting that a name declares."""

    def seen():
        with pytest.MonkeyPatch.context() as patch, dtype_policy("float64"):
            models.narrow(patch)
            test_settings.test_a_declared_setting(name, parameter, value)

    return seen


def _interleaved(values, n_samples):
    """Copies of each row next to each other."""
    return tf.repeat(values, n_samples, axis=0)


def _of_another_variable(true):
    return lambda z, others: true(z, tf.roll(others, 1, axis=1))


def _most_probable(true):
    return lambda logits, gumbels, top: true(logits, 0 * gumbels, top)


def _noise_of_another_variable(true):
    return lambda logits, gumbels, top: true(logits, tf.roll(gumbels, 1, axis=1), top)


def _at_the_posterior_temperature(true):
    return lambda logits, one_hot, g, temperature: true(logits, one_hot, g, 1.0)


def _without_chain(true):
    return lambda logits, gumbels, normals, steps, *rest: true(logits, gumbels, normals, 2, *rest)


def _with_reinmax_through_the_chain(true):
    """ReinDGE that does not detach the logits."""

    def sample(logits, gumbels, normals, steps, end, second_order):
        if not second_order:
            return true(logits, gumbels, normals, steps, end)
        first = true(logits, gumbels, normals, steps, end)
        second = true(logits, gumbels, normals, steps, end, True)
        return (first + second) / 2

    return sample


CATEGORIES = [
    *(
        Fault(
            f"{name} without a chain",
            replace(kernels, "diffused_sample", _without_chain),
            another_formula_at(name, "redge_steps", 3),
        )
        for name in ("CatReDGE", "CatReinDGE")
    ),
    Fault(
        "ReinDGE averaged with ReDGE",
        replace(kernels, "diffused_sample", _with_reinmax_through_the_chain),
        another_formula_at("CatReinDGE", "redge_end", 0.8),
    ),
    Fault(
        "ReDGE whose samples are said to follow the posterior",
        replace(ReDGE, "follows_posterior", lambda true: True),
        fails("CatReDGE", "structure: categorical", "not f at the hard samples"),
    ),
    Fault(
        "sites that ignore the forward temperature",
        replace(ObjectiveModel, "_temperature", lambda true: lambda self, name: 1.0),
        lambda: Float64(test_posterior_temperature).test_sites_of_objectives_divide_their_logits(
            True
        ),
    ),
    Fault(
        "belief networks that ignore the forward temperature",
        replace(
            Transformation,
            "call",
            lambda true: lambda self, inputs: self.temperature * true(self, inputs),
        ),
        divided_by_models,
    ),
    Fault(
        "decoupled straight-through with the forward temperature backward",
        replace(kernels, "straight_through", _at_the_posterior_temperature),
        another_formula_at("CatDecoupledST", "backward_temperature", 1.7),
    ),
    Fault(
        "chains with the lower layers and the noise of other rows",
        replace(samplers, "families", lambda true: module_with(families, repeated=_interleaved)),
        biased("CatIndeCateR", TWO_LAYERS),
    ),
    Fault(
        "IndeCateR with the categories of another variable",
        replace(local_expectation, "with_others", _of_another_variable),
        biased("CatIndeCateR", ONE_LAYER),
    ),
    Fault(
        "IndeCateR with half of the mean over categories",
        replace(local_expectation, "dot", times(0.5)),
        biased("CatIndeCateR", ONE_LAYER),
    ),
    Fault(
        "sum-and-sample with the most probable of the rest",
        replace(local_expectation, "best_of_rest", _most_probable),
        biased("CatSumAndSample", ONE_LAYER),
    ),
    Fault(
        "sum-and-sample with the noise of another variable",
        replace(local_expectation, "best_of_rest", _noise_of_another_variable),
        biased("CatSumAndSample", ONE_LAYER),
    ),
]
