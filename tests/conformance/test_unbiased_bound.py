"""Estimators of the multi-sample bound are unbiased for it, and planted faults are caught.

See `monte_carlo` for seed, number of draws, false-fail rate and what can be detected.
"""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from rebar import registry
from rebar.core import bound_gradients, enumeration, logit_gradients, samplers
from rebar.estimators import reinforce
from rebar.noise import Noise
from tests.conformance import monte_carlo
from tests.conformance.cases import (
    FAMILIES,
    flat,
    float64,
    follower,
    images,
    tensor,
    tiny_model,
)
from tests.conformance.test_unbiased import CONTINUATIONS, PROBLEMS, VARIANTS

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")

CASES = [
    *(("SBNVIMCO", 2, {}, *problem) for problem in PROBLEMS),
    *(("SBNVIMCO", 3, {}, family, 1, False) for family in FAMILIES),
    *(
        # Each of the four forms meets every number of layers.
        (
            "SBNLocalDisARM",
            4,
            {
                "symmetrized": symmetrized,
                "continuation": ("shared", "independent")[(i + symmetrized) % 2],
            },
            *problem,
        )
        for i, problem in enumerate(PROBLEMS)
        for symmetrized in (False, True)
    ),
    *(
        ("SBNLocalDisARM", 6, {"symmetrized": symmetrized}, "unconditional", 1, False)
        for symmetrized in (False, True)
    ),
    *(
        # NVIL's baseline is random here: too noisy for the nonlinear model.
        (
            "SBNNVIL" if i % 2 and not nonlinear else "SBN",
            2,
            {"multi_sample": True},
            *remaining,
            nonlinear,
        )
        for i, (*remaining, nonlinear) in enumerate(PROBLEMS)
    ),
    ("SBN", 3, {"multi_sample": True}, "unconditional", 2, False),
]
"""(model, n_samples, settings, family, n_layer, nonlinear)."""


def test_the_false_fail_rate_covers_all_checks():
    others = len(PROBLEMS) * len(registry.names("binary")) + len(VARIANTS) + len(CONTINUATIONS)
    assert len(CASES) + others <= monte_carlo.CHECKS


def test_the_cases_have_every_form_at_every_number_of_layers():
    forms = {
        (n_layer, s["symmetrized"], s["continuation"])
        for name, n_samples, s, _, n_layer, _ in CASES
        if (name, n_samples) == ("SBNLocalDisARM", 4)
    }
    assert forms == set(itertools.product((1, 2, 3), (False, True), ("shared", "independent")))


@pytest.mark.parametrize(("name", "n_samples", "settings", "family", "n_layer", "nonlinear"), CASES)
def test_unbiased_for_the_bound(name, n_samples, settings, family, n_layer, nonlinear):
    model = tiny_model(n_layer, family, nonlinear)
    estimator = follower(name, model, n_samples, **settings)
    assert (estimator.objective, estimator.unbiased) == ("bound", True)
    monte_carlo.assert_unbiased(estimator, model, n_samples)


# Planted faults, which the same comparison must catch.


def assert_biased(name, n_samples, n_layer=1, **settings):
    model = tiny_model(n_layer)
    estimator = follower(name, model, n_samples, **settings)
    monte_carlo.assert_biased(estimator, model, "q_", n_samples)


@pytest.mark.parametrize(
    ("name", "n_samples", "settings"),
    [
        ("SBNVIMCO", 2, {}),
        ("SBNLocalDisARM", 4, {}),
        ("SBNLocalDisARM", 4, {"symmetrized": False}),
        ("SBNNVIL", 2, {"multi_sample": True}),
    ],
)
def test_fault_the_explicit_part_of_q_dropped(name, n_samples, settings, monkeypatch):
    true = bound_gradients.at_fixed_samples

    def without_q(*args):
        fixed = true(*args)
        return fixed._replace(log_q=[tf.zeros_like(c) for c in fixed.log_q])

    monkeypatch.setattr(bound_gradients, "at_fixed_samples", without_q)
    assert_biased(name, n_samples, **settings)


def test_fault_a_baseline_that_sees_its_own_chain(monkeypatch):
    monkeypatch.setattr(
        logit_gradients,
        "mean_of_others",
        lambda f: tf.repeat(tf.reduce_mean(f, axis=0, keepdims=True), f.shape[0], axis=0),
    )
    assert_biased("SBNVIMCO", 2)


@pytest.mark.parametrize("symmetrized", [False, True])
@pytest.mark.parametrize("n_layer", [1, 2])
def test_fault_the_replacement_of_another_chain(n_layer, symmetrized, monkeypatch):
    true = logit_gradients.bound_with_one_replaced
    monkeypatch.setattr(
        logit_gradients,
        "bound_with_one_replaced",
        lambda f, replacement: true(f, tf.roll(replacement, 1, axis=0)),
    )
    assert_biased("SBNLocalDisARM", 4, n_layer, symmetrized=symmetrized)


@pytest.mark.parametrize("symmetrized", [False, True])
def test_fault_the_members_of_a_pair_swapped_in_the_signal(symmetrized, monkeypatch):
    true = logit_gradients.bound_with_one_replaced
    monkeypatch.setattr(
        logit_gradients, "bound_with_one_replaced", lambda f, replacement: true(replacement, f)
    )
    assert_biased("SBNLocalDisARM", 4, symmetrized=symmetrized)


# Few examples: errors of order 1 / B that no large batch shows.


def mean_over_all_outcomes(estimator, model, n_samples, examples):
    """The exact mean of an estimate that depends on its noise by way of the hard samples only."""
    x, rows = images(examples), n_samples * examples
    states = enumeration.all_states(model.n_units, tf.float64)
    n_states = states[0].shape[0]
    every = tuple(tf.repeat(s, examples, axis=0) for s in states)
    log_q = tf.add_n(list(model.rollout(tensor(x), samplers.fixed(every), n_states).log_q))
    log_q = np.reshape(log_q, [n_states, examples])
    outcomes = np.array(list(itertools.product(range(n_states), repeat=rows)))
    weights = np.exp(log_q[outcomes, np.tile(range(examples), n_samples)].sum(axis=1))

    def weighted(of_one):
        outcome, weight = of_one
        uniforms = tuple(1e-12 + (1 - 2e-12) * tf.gather(s, outcome) for s in states)
        estimate = estimator.estimate(model, tensor(x), Noise(uniforms, n_samples))
        return weight * tf.concat([tf.reshape(g, [-1]) for g in estimate.gradients], axis=0)

    every_one = tf.function(
        lambda: tf.map_fn(weighted, (outcomes, weights), fn_output_signature=tf.float64),
        autograph=False,
    )
    return every_one().numpy().sum(axis=0)


@pytest.mark.parametrize(
    ("name", "n_layer", "n_samples", "examples"),
    [
        ("SBN", 1, 2, 2),
        ("SBN", 1, 3, 1),
        ("SBN", 2, 2, 1),
        ("SBNNVIL", 1, 2, 2),
        ("SBNVIMCO", 1, 2, 2),
        ("SBNVIMCO", 1, 3, 1),
        ("SBNVIMCO", 2, 2, 1),
    ],
)
def test_exactly_unbiased_at_few_examples(name, n_layer, n_samples, examples):
    model = tiny_model(n_layer)
    estimator = follower(name, model, n_samples, multi_sample=name in ("SBN", "SBNNVIL"))
    mean = mean_over_all_outcomes(estimator, model, n_samples, examples)
    truth = flat(enumeration.bound_and_gradient(model, images(examples), n_samples).gradients)
    np.testing.assert_allclose(mean, truth, rtol=0, atol=1e-10 * np.max(np.abs(truth)))


def test_fault_a_bound_compared_with_itself(monkeypatch):
    monkeypatch.setattr(reinforce, "center", lambda f: f - tf.reduce_mean(f))
    model = tiny_model(1)
    mean = mean_over_all_outcomes(follower("SBN", model, 2, multi_sample=True), model, 2, 2)
    truth = flat(enumeration.bound_and_gradient(model, images(2), 2).gradients)
    assert np.max(np.abs(mean - truth)) > 0.1 * np.max(np.abs(truth))
