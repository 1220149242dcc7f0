"""What every registered estimator owes: jit, structure, finite gradients, a state that restores."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rebar import registry
from rebar.estimators.base import hard_rollout
from rebar.factory import make_learner
from rebar.runs import checkpoint
from tests.conformance.cases import (
    FAMILIES,
    N_INPUT,
    draw,
    hparams,
    images,
    noise_keys,
    randomize,
    registered,
    samples_of,
    tensor,
    tiny_model,
)

NAMES = registry.names("binary")
P_ELSEWHERE = {"SBNGumbel", "SBNVIMCO", "SBNLocalDisARM"}
"""Whose gradient of p is at relaxed samples, or that of the multi-sample bound."""

BATCH = 5


def inputs(estimator, model, n_samples, step=0):
    """Images [BATCH, D] and noise in float32."""
    noise = draw(estimator, model, noise_keys(11, step), n_samples, BATCH)
    return tensor(images(BATCH), tf.float32), noise


def largest_difference(a, b):
    """Over all tensors, relative to each one's largest magnitude."""
    return max(
        np.max(np.abs(np.subtract(x, y))) / max(np.max(np.abs(x)), 1e-3)
        for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
def test_jit_gives_what_eager_gives(name):
    family = list(FAMILIES)[NAMES.index(name) % len(FAMILIES)]
    model = tiny_model(2, family)
    estimator = registered(name, model)
    x, noise = inputs(estimator, model, samples_of(name, least=2))
    eager = estimator.estimate(model, x, noise)
    compiled = tf.function(estimator.estimate, jit_compile=True, autograph=False)(model, x, noise)
    assert largest_difference(eager._asdict(), compiled._asdict()) < 2e-5


@pytest.mark.parametrize(("family", "least"), [*zip(FAMILIES, (1, 3, 2), strict=True)])
@pytest.mark.parametrize("name", NAMES)
def test_structure(name, family, least):
    model = tiny_model(2, family)
    n_samples = samples_of(name, least=least)
    estimator = registered(name, model, n_samples=n_samples)
    x, noise = inputs(estimator, model, n_samples)
    estimate = estimator.estimate(model, x, noise)
    rows = n_samples // estimator.samples_per_chain * BATCH

    def shapes(values):
        return [(tuple(v.shape), tf.as_dtype(v.dtype)) for v in values]

    assert isinstance(estimate.gradients, list)
    for gradients in (estimate.gradients, *estimate.tracked.values()):
        assert shapes(gradients) == shapes(model.trainable_variables)
    assert shapes(estimate.control_gradients) == shapes(estimator.trainable_variables)
    assert shapes([estimate.objective]) == [((rows,), tf.float32)]
    hard = hard_rollout(model, x, noise)
    np.testing.assert_allclose(estimate.objective, hard.objective[:rows], rtol=1e-6)

    for value in estimate.metrics.values():
        assert value.shape == ()
        assert np.isfinite(value)
    without_gradient = estimator.metrics(model, x, noise, hard)
    names = [n for n in estimate.metrics if n in without_gradient]
    assert names == list(without_gradient)
    for key in names:
        np.testing.assert_allclose(estimate.metrics[key], without_gradient[key], rtol=1e-5)

    of_model = {id(v) for v in model.variables}
    assert of_model.isdisjoint(id(v) for v in estimator.variables)


def test_the_tracking_estimator_returns_what_each_returns_alone():
    model = tiny_model(2)
    settings = hparams("SBNTrackGradVariances", 2, track=tuple(registry.labels("binary")))
    tracked = registry.make_estimator("SBNTrackGradVariances", settings)
    tracked.setup(model, 2)
    randomize(tracked.trainable_variables, 3, 0.3)
    x, noise = inputs(tracked, model, settings.n_samples)
    estimate = tracked.estimate(model, x, noise)
    assert list(estimate.tracked) == list(registry.labels("binary"))
    control = []
    for label, own in zip(estimate.tracked, tracked.estimators, strict=True):
        alone = own.estimate(model, x, noise)
        assert largest_difference(alone.gradients, estimate.tracked[label]) == 0
        control += alone.control_gradients
    assert largest_difference(control, estimate.control_gradients) == 0
    assert largest_difference(estimate.gradients, estimate.tracked[tracked.follow]) == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_at_saturated_logits(name, family):
    """Logits beyond 30 in both directions; noise down to the smallest uniform and its opposite."""
    model = tiny_model(2, family)
    for v in model.trainable_variables:
        v.assign(40 * v)
    estimator = registered(name, model)
    n_samples = samples_of(name, least=4)
    x, noise = inputs(estimator, model, n_samples)
    extremes = np.resize([2.0**-24, 1 - 2.0**-24, np.nan, np.nan, np.nan], [n_samples * BATCH, 1])
    noise = noise._replace(
        uniforms=tuple(
            tf.where(np.isnan(extremes), u, extremes.astype(np.float32)) for u in noise.uniforms
        )
    )
    logits = np.concatenate(hard_rollout(model, x, noise).logits)
    assert logits.min() < -30
    assert logits.max() > 30
    estimate = estimator.estimate(model, x, noise)
    for values in tf.nest.flatten(estimate._asdict()):
        assert np.all(np.isfinite(values))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "SBNTrackGradVariances"])
def test_who_says_that_p_follows_the_hard_samples_does_so(name):
    """A tracker computes these gradients once; P_ELSEWHERE names those that follow others."""
    model = tiny_model(2)
    estimator = registered(name, model)
    x, noise = inputs(estimator, model, samples_of(name, least=2))
    with tf.GradientTape() as tape:
        log_joint = hard_rollout(model, x, noise).log_joint
        loss = -tf.reduce_mean(log_joint)
    inference = {id(v) for v in model.inference_variables}
    mine = [i for i, v in enumerate(model.trainable_variables) if id(v) not in inference]
    expected = tape.gradient(loss, [model.trainable_variables[i] for i in mine])
    gradients = estimator.estimate(model, x, noise).gradients
    difference = largest_difference(expected, [gradients[i] for i in mine])
    assert estimator.generator_at_hard == (name not in P_ELSEWHERE)
    assert difference < 1e-5 if estimator.generator_at_hard else difference > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_run_goes_on_bit_by_bit(name, tmp_path):
    """All that a step changes or reads is among `named_variables`, by names that are unique."""

    def learner(seed):
        settings = hparams(name, 2)
        estimator = registry.make_estimator(name, settings)
        return make_learner(settings, estimator, np.linspace(0.2, 0.7, N_INPUT), False, seed)

    first = learner(0)
    names = first.named_variables()
    owners = [first.model, first.estimator, first.optimizer, first.control_optimizer]
    expected = sum(len(owner.variables) for owner in owners if owner is not None)
    moments = tf.nest.flatten(list(vars(first.moments).values()))
    expected += len({id(v) for v in moments if isinstance(v, tf.Variable)})
    assert len(names) == expected
    assert len({id(v) for v in names.values()}) == expected

    def states(of):
        return {key: v.numpy() for key, v in of.named_variables().items()}

    def take(of, step):
        return of.step(*inputs(of.estimator, of.model, samples_of(name), step))

    for step in (0, 1):
        take(first, step)
    checkpoint.save(tmp_path, 2, names, {}, {})
    saved = states(first)
    results = take(first, 2)
    after = states(first)
    assert all(np.any(after[key] != saved[key]) for key in saved if key.startswith("model/"))

    second = learner(1)
    for v in second.named_variables().values():
        v.assign(keras.ops.full_like(v, 3))
    assert checkpoint.restore(tmp_path, second.named_variables(), {}).step == 2
    again = take(second, 2)
    for a, b in zip(tf.nest.flatten(results), tf.nest.flatten(again), strict=True):
        np.testing.assert_array_equal(a, b)
    for key, value in states(second).items():
        np.testing.assert_array_equal(value, after[key], err_msg=key)
