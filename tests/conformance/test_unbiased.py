"""Every registered estimator has the declared mean: that of enumeration, or another one.

See `monte_carlo` for seed, number of draws, false-fail rate and what can be detected.
"""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from rebar import registry
from rebar.core import bernoulli, enumeration, gradients, samplers
from rebar.estimators import leave_one_out, reinforce
from rebar.estimators.base import hard_rollout
from rebar.estimators.muprop import MuProp
from rebar.estimators.nvil import NVIL
from rebar.estimators.rebar import REBAR
from rebar.noise import Noise
from rebar.types import Estimate
from tests.conformance import monte_carlo
from tests.conformance.cases import (
    FAMILIES,
    flat,
    float64,
    images,
    registered,
    set_up,
    tensor,
    tiny_model,
)
from tests.conformance.monte_carlo import assert_biased, assert_unbiased
from tests.conformance.test_pairs import CONTINUATIONS

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")

PROBLEMS = [
    *((family, n_layer, False) for family in FAMILIES for n_layer in (1, 2, 3)),
    ("unconditional", 2, True),
]
"""(family, n_layer, nonlinear)."""

VARIANTS = [
    (2, {"quadratic": False}),
    (3, {"quadratic": False}),
    (2, {"muprop_relaxation": False}),
    (3, {"coupling": "all", "quadratic": False}),
    (1, {"coupling": "all"}),
]
"""(n_layer, settings) of REBAR that are unbiased and not the default."""


@pytest.mark.parametrize(("family", "n_layer", "nonlinear"), PROBLEMS)
@pytest.mark.parametrize("name", registry.names("binary"))
def test_registered_estimators_are_unbiased_or_say_that_they_are_not(
    name, family, n_layer, nonlinear
):
    model = tiny_model(n_layer, family, nonlinear)
    changes = {}
    if registry.entry(name).tracks:
        # It must follow the selected estimator, not the biased one.
        changes = {"track": ("Gumbel", "MuProp"), "follow": "MuProp"}
    estimator = registered(name, model, **changes)
    if estimator.unbiased:
        assert_unbiased(estimator, model)
    else:
        assert_biased(estimator, model)


def test_known_biases_are_declared():
    model = tiny_model(2)
    biased = {n for n in registry.names("binary") if not registered(n, model).unbiased}
    assert biased == {"SBNGumbel"}
    follows_it = {"track": ("Gumbel", "MuProp"), "follow": "Gumbel"}
    assert not registered("SBNTrackGradVariances", model, **follows_it).unbiased
    for n_layer, coupling, quadratic, unbiased in [
        (1, "all", True, True),
        (2, "all", True, False),
        (2, "all", False, True),
        (2, "switch", True, True),
    ]:
        rebar = set_up(REBAR(coupling=coupling, quadratic=quadratic), tiny_model(n_layer))
        assert rebar.unbiased == unbiased


@pytest.mark.parametrize(("n_layer", "settings"), VARIANTS)
def test_variants_of_rebar_are_unbiased(n_layer, settings):
    model = tiny_model(n_layer)
    estimator = set_up(REBAR(**settings), model)
    assert estimator.unbiased
    assert_unbiased(estimator, model)


def test_the_false_fail_rate_covers_all_checks():
    checks = len(PROBLEMS) * len(registry.names("binary")) + len(VARIANTS) + len(CONTINUATIONS)
    assert checks <= monte_carlo.CHECKS


# Planted faults, which the same comparison must catch.


@pytest.mark.parametrize(
    ("n_layer", "family"), [(2, "unconditional"), (3, "unconditional"), (2, "multilayer")]
)
def test_fault_coupling_of_all_layers(n_layer, family):
    model = tiny_model(n_layer, family)
    assert_biased(set_up(REBAR(coupling="all"), model), model, where="q_")


@pytest.mark.parametrize("factor", [-1, 0], ids=["wrong sign", "dropped"])
def test_fault_coupling_derivative(factor, monkeypatch):
    true = bernoulli.coupling_derivative
    monkeypatch.setattr(bernoulli, "coupling_derivative", lambda b, u, a: factor * true(b, u, a))
    model = tiny_model(1)
    assert_biased(set_up(REBAR(), model), model, where="q_0")


def test_fault_a_baseline_that_sees_the_sample():
    class SeesSample(NVIL):
        def estimate(self, model, x, noise):
            with tf.GradientTape() as tape:
                hard = hard_rollout(model, x, noise)
            baseline = self.baseline(x, n_samples=noise.n_samples) + hard.samples[0][:, 0]
            g = gradients.score_gradient(
                tape, hard, [hard.objective - baseline], model.trainable_variables
            )
            return Estimate(g, [], hard.objective, {})

    model = tiny_model(2)
    assert_biased(set_up(SeesSample(), model), model, where="q_0")


def test_fault_no_expected_linear_term(monkeypatch):
    true = gradients.score_gradient
    monkeypatch.setattr(
        gradients,
        "score_gradient",
        lambda tape, rollout, signals, variables, linear: true(tape, rollout, signals, variables),
    )
    model = tiny_model(2)
    assert_biased(set_up(MuProp(), model), model, where="q_")


# Leave-one-out centring, whose errors of order 1 / rows no large batch shows.


def mean_over_all_outcomes(estimator, model, rows, n_samples=1):
    """The exact mean of an estimate that depends on its noise by way of the hard samples only.

    The rows' uniforms take them through all combinations of states.
    """
    batch = images(rows // n_samples)
    x = np.tile(batch, [n_samples, 1])
    states = enumeration.all_states(model.n_units, tf.float64)
    every = tuple(tf.repeat(s, rows, axis=0) for s in states)
    n_states = states[0].shape[0]
    log_q = tf.add_n(list(model.rollout(tensor(x), samplers.fixed(every), n_states).log_q))
    log_q = np.reshape(log_q, [n_states, rows])
    estimate = tf.function(
        lambda uniforms: (
            estimator.estimate(model, tensor(batch), Noise(uniforms, n_samples)).gradients
        )
    )
    total = 0
    for outcome in itertools.product(range(n_states), repeat=rows):
        uniforms = tuple(1e-12 + (1 - 2e-12) * tf.gather(s, outcome) for s in states)
        weight = np.exp(log_q[outcome, range(rows)].sum())
        total = total + weight * flat(estimate(uniforms))
    return total, flat(enumeration.elbo_and_gradient(model, batch).gradients)


@pytest.mark.parametrize(
    ("n_layer", "rows", "n_samples"), [(1, 2, 2), (1, 4, 2), (1, 3, 3), (2, 2, 2)]
)
def test_leave_one_out_is_unbiased_at_few_rows(n_layer, rows, n_samples):
    model = tiny_model(n_layer)
    estimator = registered("SBNReinforceLOO", model)
    mean, truth = mean_over_all_outcomes(estimator, model, rows, n_samples)
    np.testing.assert_allclose(mean, truth, rtol=0, atol=1e-10 * np.max(np.abs(truth)))


def test_fault_a_baseline_that_counts_the_sample_itself(monkeypatch):
    monkeypatch.setattr(leave_one_out, "learning_signal", lambda f, _: f - tf.reduce_mean(f))
    model = tiny_model(1)
    mean, truth = mean_over_all_outcomes(registered("SBNReinforceLOO", model), model, 2, 2)
    assert np.max(np.abs(mean - truth)) > 0.1 * np.max(np.abs(truth))


@pytest.mark.parametrize(("n_layer", "rows"), [(1, 1), (1, 2), (1, 3), (2, 2)])
def test_reinforce_is_unbiased_at_few_rows(n_layer, rows):
    model = tiny_model(n_layer)
    mean, truth = mean_over_all_outcomes(registered("SBN", model), model, rows)
    np.testing.assert_allclose(mean, truth, rtol=0, atol=1e-10 * np.max(np.abs(truth)))


def test_fault_centring_that_counts_the_row_itself(monkeypatch):
    monkeypatch.setattr(reinforce, "center", lambda f: f - tf.reduce_mean(f))
    model = tiny_model(1)
    mean, truth = mean_over_all_outcomes(registered("SBN", model), model, 2)
    assert np.max(np.abs(mean - truth)) > 0.1 * np.max(np.abs(truth))
