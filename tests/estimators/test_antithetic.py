"""ARM and DisARM: which chains they compare, with what noise, at what cost."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import families
from rebar.errors import RebarError
from rebar.estimators.antithetic import ARM, DisARM
from rebar.estimators.base import hard_rollout
from rebar.noise import Noise
from rebar.training.evaluate import Evaluator
from tests.conformance.cases import (
    FAMILIES,
    draw,
    float64,
    images,
    noise_keys,
    tensor,
    tiny_model,
)
from tests.quadrature import moments, uniforms

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")

BATCH = 4


def problem(estimator, n_layer, family="unconditional", n_samples=2):
    model = tiny_model(n_layer, family)
    noise = draw(estimator, model, noise_keys(5, n_layer), n_samples, BATCH, tf.float64)
    return model, tensor(images(BATCH)), noise


def literal(estimator, model, x, noise):
    """The formulas: a chain that parts at layer l is the main one with other uniforms from l on."""
    n_layer = len(noise.uniforms)
    with tf.GradientTape() as tape:
        hard = hard_rollout(model, x, noise._replace(branches=()))
        loss = -tf.reduce_mean(hard.log_joint)
        for layer, u in enumerate(noise.uniforms):
            above = noise.branches[layer] if estimator.branches else noise.uniforms[layer + 1 :]
            other = (*noise.uniforms[:layer], 1 - u, *above)
            assert len(other) == n_layer
            pair = hard_rollout(model, x, Noise(other, noise.n_samples))
            difference = (hard.objective - pair.objective).numpy()[:, np.newaxis]
            b, b_antithetic = hard.samples[layer].numpy(), pair.samples[layer].numpy()
            if isinstance(estimator, ARM):
                cotangent = difference * (u.numpy() - 0.5)
            else:
                p = 1 / (1 + np.exp(-hard.logits[layer].numpy()))
                sign = np.where(b_antithetic == 1, -1, 1) * (b != b_antithetic)
                cotangent = difference / 2 * sign * np.maximum(p, 1 - p)
            loss -= tf.reduce_mean(tf.reduce_sum(cotangent * hard.logits[layer], axis=1))
    return tape.gradient(loss, [v.value for v in model.trainable_variables])


@pytest.mark.parametrize("continuation", ["shared", "independent"])
@pytest.mark.parametrize("cls", [ARM, DisARM])
@pytest.mark.parametrize(("n_layer", "family"), [(1, "2017"), (2, "multilayer"), (3, "2017"),
                                                 (4, "unconditional")])  # fmt: skip
def test_equals_the_formulas(n_layer, family, cls, continuation):
    estimator = cls(continuation=continuation)
    model, x, noise = problem(estimator, n_layer, family)
    estimate = estimator.estimate(model, x, noise)
    expected = literal(estimator, model, x, noise)
    largest = max(np.max(np.abs(g)) for g in expected)
    for ours, g in zip(estimate.gradients, expected, strict=True):
        np.testing.assert_allclose(ours, g, rtol=1e-10, atol=1e-12 * largest)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_continuation_matters_above_one_layer_only(family):
    for n_layer, same in [(1, True), (2, False)]:
        shared, independent = DisARM(), DisARM(continuation="independent")
        model, x, noise = problem(independent, n_layer, family, n_samples=20)
        results = [e.estimate(model, x, noise).gradients for e in (shared, independent)]
        differ = [not np.array_equal(a, b) for a, b in zip(*results, strict=True)]
        assert any(differ) != same


def test_shared_chains_do_not_look_at_branches():
    """A tracker gives all its estimators the noise that any of them needs."""
    model, x, noise = problem(DisARM(continuation="independent"), 3)
    with_branches = DisARM().estimate(model, x, noise).gradients
    without = DisARM().estimate(model, x, noise._replace(branches=())).gradients
    for a, b in zip(with_branches, without, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("continuation", ["shared", "independent"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_disarm_varies_no_more_than_arm_in_any_layer(layer, continuation):
    """Exactly, over the noise of the layer, with the noise of all others held fixed."""
    model, x, noise = problem(DisARM(continuation="independent"), 3, n_samples=1)
    main, branches = tf.nest.map_structure(lambda u: u[:1], (noise.uniforms, noise.branches))
    x, noise = x[:1], Noise(main, 1, branches)
    logits = hard_rollout(model, x, noise).logits[layer][0]
    u, weights = uniforms(logits.numpy())
    variables = model.inference_variables[2 * layer : 2 * layer + 2]

    def estimates(cls):
        estimator = cls(continuation=continuation)

        @tf.function(autograph=False)
        def one(row):
            changed = (*main[:layer], row[tf.newaxis], *main[layer + 1 :])
            results = estimator.estimate(model, x, noise._replace(uniforms=changed)).gradients
            of = {id(v): g for v, g in zip(model.trainable_variables, results, strict=True)}
            return tf.concat([tf.reshape(of[id(v)], [-1]) for v in variables], axis=0)

        return np.stack([one(tf.constant(row)) for row in u])

    (arm_mean, arm), (mean, variance) = (moments(estimates(c), weights) for c in (ARM, DisARM))
    np.testing.assert_allclose(mean, arm_mean, rtol=1e-9, atol=1e-12)
    assert np.all(variance <= arm + 1e-12 * np.max(arm))
    assert np.sum(variance) < 0.99 * np.sum(arm)


@pytest.mark.parametrize("cls", [ARM, DisARM])
@pytest.mark.parametrize("n_layer", [1, 3])
def test_evaluations_count_rollouts(n_layer, cls, monkeypatch):
    model, x, noise = problem(cls(), n_layer)
    rollout, count = type(model).rollout, []
    monkeypatch.setattr(type(model), "rollout", lambda *a, **k: count.append(1) or rollout(*a, **k))
    cls().estimate(model, x, noise)
    assert len(count) == cls().evaluations(families.shapes(model)) == 1 + n_layer


def test_independent_continuations_need_branches():
    estimator = DisARM(continuation="independent")
    model, x, noise = problem(estimator, 2)
    assert estimator.branches
    with pytest.raises(RebarError, match=r"rebar\.noise\.with_branches"):
        estimator.estimate(model, x, noise._replace(branches=()))
    model, x, noise = problem(DisARM(), 1)
    assert not noise.branches
    estimator.estimate(model, x, noise)


def test_an_unknown_continuation_is_refused():
    with pytest.raises(RebarError, match="continuation='both': choose from shared, independent"):
        ARM(continuation="both")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cls", [ARM, DisARM])
def test_saturated_posteriors_have_no_gradient(cls, dtype):
    """Where no uniform can part a pair, f and f~ are one number and q's gradient is exactly 0."""
    keras.config.set_dtype_policy(dtype)
    model = tiny_model(2)
    for i, v in enumerate(model.inference_variables):
        v.assign(tf.fill(v.shape, tf.cast(0 if i % 2 == 0 else 60 * (-1) ** (i // 2), v.dtype)))
    noise = noise_module.latents(noise_keys(1, 0)[0], 3, BATCH, model.n_units, dtype)
    estimate = cls().estimate(model, tensor(images(BATCH), dtype), noise)
    of_q = {id(v) for v in model.inference_variables}
    for v, g in zip(model.trainable_variables, estimate.gradients, strict=True):
        assert np.all(np.isfinite(g))
        assert np.all(g == 0) == (id(v) in of_q)


@pytest.mark.parametrize("cls", [ARM, DisARM])
def test_evaluation(cls):
    """A hundred samples per image, no metrics; the bound is above the ELBO."""
    model = tiny_model(2)
    values = Evaluator(model, cls())(images(BATCH), n_samples=100)
    assert list(values) == ["bound", "elbo"]
    assert values["elbo"] < values["bound"] < 0


def test_key_of_the_branches_leaves_the_main_chain_as_it_is():
    model = tiny_model(3)
    plain = draw(DisARM(), model, noise_keys(2, 7), 1, BATCH)
    branched = draw(DisARM(continuation="independent"), model, noise_keys(2, 7), 1, BATCH)
    for a, b in zip(plain.uniforms, branched.uniforms, strict=True):
        np.testing.assert_array_equal(a, b)
