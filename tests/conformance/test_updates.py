"""Hyperparameters of updates: weights after each step are those of optimizers in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise, registry
from rebar.estimators.base import checked_estimate
from rebar.factory import make_learner
from rebar.hparams import HParams
from rebar.testing.problems import dtype_policy
from tests.conformance.literal import models, optimizers
from tests.training import tiny

MEAN = np.linspace(0.2, 0.7, 6)

CASES = (
    "",
    "learning_rate=0.03",
    "beta2=0.7",
    "optimizer=radam,beta2=0.9",
    "learning_rate_generator=0.04",
    "learning_rate_prior=0.05",
    "prior_optimizer=sgd",
    "prior_optimizer=sgd,learning_rate_prior=0.05",
    "learning_rate_control=0.06",
    "optimizer=radam,learning_rate_generator=0.04,learning_rate_prior=0.05,learning_rate_control=0.06",
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Models in float64; networks of the categorical VAE with few units."""
    models.narrow(monkeypatch)
    with dtype_policy("float64"):
        yield


def assert_updates(h, step, variables, updates):
    """Each step moves every variable as its update says; Keras keeps rates in float32."""
    history = [[] for _ in variables]
    # RAdam is rectified from the sixth step on.
    for i in range(7 if h.optimizer == "radam" else 2):
        before = [v.numpy() for v in variables]
        for gradients, g in zip(history, step(i), strict=True):
            gradients.append(np.asarray(g))
        for v, w, update, gradients in zip(variables, before, updates, history, strict=True):
            expected = update(w, gradients)
            np.testing.assert_allclose(v, expected, rtol=0, atol=1e-6, err_msg=f"{v.path}, {i}")
            assert np.any(expected != w) or not np.any(gradients[-1])


X = np.random.default_rng(0).integers(0, 2, [4, 6]).astype(np.float64)


BINARY, CATEGORICAL = "SBNNVIL,n_layer=2,n_hidden=3", "CatST,n_latents=2,prior=learned"


@pytest.mark.parametrize(
    ("changes", "model"), [*((case, BINARY) for case in CASES), (CASES[-1], CATEGORICAL)]
)
def test_a_step_updates_each_part_as_its_settings_say(changes, model):
    assert_step(HParams.parse(f"model={model},learning_rate=0.01,beta2=0.99", changes))


@pytest.mark.parametrize("model", ["Parts", "SBNTrackGradVariances,track=[NVIL,Parts]"])
def test_each_learned_part_has_its_rate_and_decay(model, own_registry):
    own_registry.register("Parts", tiny.Parts)
    settings = "n_hidden=3,learning_rate=0.01,beta2=0.99,learning_rate_control=0.02"
    assert_step(HParams.parse(f"model={model},{settings}"))


def assert_step(h):
    """Each step moves every variable of the model and the estimator as its settings say."""
    learner = make_learner(h, registry.make_estimator(h.model, h), MEAN, False)
    variables = [*learner.model.trainable_variables, *learner.estimator.trainable_variables]
    updates = [
        optimizers.of_variable(v, learner.model, h) for v in learner.model.trainable_variables
    ]
    for member in learner.estimator.members().values():
        updates += [optimizers.of_control(h) for _ in member.trainable_variables]
        if isinstance(member, tiny.Parts):
            updates[-2:] = optimizers.adam(0.5 * 0.02, 0.8), optimizers.adam(3 * 0.02, 0.9)

    def step(i):
        draws = noise.latents(
            noise.key(0, "latents", i), 1, len(X), learner.model.n_units, "float64"
        )
        estimate = checked_estimate(learner.estimator, learner.model, tf.constant(X), draws)
        learner.step(tf.constant(X), draws)
        return [*estimate.gradients, *estimate.control_gradients]

    assert_updates(h, step, variables, updates)


@pytest.mark.parametrize("field", ["optimizer", "prior_optimizer"])
def test_every_optimizer_is_tested(field):
    """By a case that names it, or as the default."""
    hparam = HParams.__dataclass_fields__[field]
    untested = set(hparam.metadata["choices"]()) - {hparam.default}
    assert all(any(f"{field}={choice}" in case.split(",") for case in CASES) for choice in untested)


@pytest.mark.parametrize(("changes", "eval_mode"), [(CASES[0], True), (CASES[-1], False)])
def test_partial_fit_updates_as_the_settings_say(changes, eval_mode):
    h = HParams.parse("model=SBNNVIL,n_hidden=3,learning_rate=0.01,beta2=0.99", changes)
    sbn = rebar.SBNNVIL(h, MEAN, eval_mode=eval_mode)
    model = sbn.learner.model
    moving = {
        id(v) for v in (model.inference_variables if eval_mode else model.trainable_variables)
    }
    updates = [
        optimizers.of_variable(v, model, h) if id(v) in moving else lambda w, gradients: w
        for v in model.trainable_variables
    ]

    def step(i):
        gradients, done = sbn.partial_grad(X)
        assert done == i
        assert sbn.partial_fit(X)[2] == i + 1
        # Frozen variables do not move, whatever their gradients.
        pairs = zip(model.trainable_variables, gradients, strict=True)
        return [g if id(v) in moving else 0 * g for v, g in pairs]

    assert_updates(h, step, model.trainable_variables, updates)


def test_gradients_of_the_class_are_those_of_its_noise():
    """A function of seed, trial, step and number of samples, at fixed weights."""
    settings = "model=SBNNVIL,n_hidden=3,learning_rate=1e-30"

    def gradients(seed=0, trial=1, steps=0, n_samples=None):
        sbn = rebar.SBNNVIL(f"{settings},trial={trial}", MEAN, seed=seed)
        for _ in range(steps):
            sbn.partial_fit(X)
        for owner in (sbn.learner.model, sbn.learner.estimator):
            for i, v in enumerate(owner.trainable_variables):
                v.assign(np.random.default_rng(i).normal(size=v.shape))
        keys = noise.key((seed, trial), "latents", steps)
        draws = noise.latents(keys, n_samples or 1, len(X), sbn.learner.model.n_units, "float64")
        expected = checked_estimate(sbn.learner.estimator, sbn.learner.model, tf.constant(X), draws)
        actual, _ = sbn.partial_grad(X, n_samples)
        for a, b in zip(actual, expected.gradients, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
        return np.concatenate([np.ravel(g) for g in actual])

    results = [
        gradients(),
        gradients(seed=1),
        gradients(trial=2),
        gradients(steps=1),
        gradients(n_samples=2),
    ]
    for i, a in enumerate(results):
        for b in results[:i]:
            assert np.max(np.abs(a - b)) > 1e-3
