"""Separate optimizers for the parts of a model: who updates what, by which rule, and resume."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rebar import noise
from rebar.errors import RebarError
from rebar.estimators.nvil import NVIL
from rebar.factory import make_model
from rebar.hparams import HParams
from rebar.runs import checkpoint
from rebar.training.blocks import Blocks
from rebar.training.learner import Learner
from rebar.training.optimizers import (
    FusedAdam,
    FusedRAdam,
    FusedSGD,
    Rates,
    build,
    for_model,
)

from . import tiny

RATES = (
    "learning_rate_generator=0.02,learning_rate_prior=0.5,prior_optimizer=sgd,"
    "learning_rate_control=0.003"
)
DATA = tiny.dataset(n_train=18)
BETA1, BETA2, EPSILON = 0.9, 0.9, 1e-8


def model_of(hparams, conditional=False):
    settings = HParams.parse("model=SBNNVIL,n_hidden=3,n_layer=2", hparams)
    return make_model(settings, np.full(6, 0.5), conditional)


def parts(model, **rates):
    """Name of an optimizer -> paths of its variables."""
    updates = for_model(model, model.trainable_variables, 0.01, BETA2, Rates(**rates))
    return {name: [v.path for v in variables] for name, (_, variables) in updates.items()}


Q = [f"q_{i}/{kind}" for i in (0, 1) for kind in ("kernel", "bias")]
P = [f"p_{i}/{kind}" for i in (1, 0) for kind in ("kernel", "bias")]


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({}, {"optimizer": ["prior/logits", *Q, *P]}),
        ({"control": 1.0}, {"optimizer": ["prior/logits", *Q, *P]}),
        (
            {"generator": 0.1},
            {"optimizer": ["prior/logits", *Q], "generator_optimizer": P},
        ),
        ({"prior": 0.1}, {"optimizer": [*Q, *P], "prior_optimizer": ["prior/logits"]}),
        (
            {"prior_optimizer": "sgd"},
            {"optimizer": [*Q, *P], "prior_optimizer": ["prior/logits"]},
        ),
        (
            {"generator": 0.1, "prior": 0.1, "prior_optimizer": "sgd"},
            {"optimizer": Q, "generator_optimizer": P, "prior_optimizer": ["prior/logits"]},
        ),
    ],
)
def test_each_variable_has_one_optimizer(rates, expected):
    assert parts(model_of(""), **rates) == expected


def test_the_priors_of_the_conditional_models():
    """A network; and none where samples are drawn from it, so that it belongs to q."""
    rates = {"generator": 0.1, "prior": 0.1}
    multilayer = parts(model_of("conditional=multilayer", True), **rates)
    assert multilayer == {
        "optimizer": Q,
        "generator_optimizer": P,
        "prior_optimizer": ["prior/kernel", "prior/bias"],
    }
    single = parts(model_of("conditional=2017", True), **rates)
    assert single == {"optimizer": Q, "generator_optimizer": ["p_0/kernel", "p_0/bias"]}


def adam(value, gradients, rate):
    """Kingma & Ba's Adam, in float64, epsilon as at the end of their section 2."""
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g**2
        corrected = rate * np.sqrt(1 - BETA2**t) / (1 - BETA1**t)
        value = value - corrected * m / (np.sqrt(v) + EPSILON)
    return value


def test_two_steps_by_hand():
    """q: Adam .01, p: Adam .02, prior: gradient descent .5, baseline: Adam .003."""
    learner = tiny.learner(f"{RATES},n_layer=2,beta2={BETA2}")
    model, estimator = learner.model, learner.estimator
    x = tf.cast(tiny.images(4), tf.float32)
    variables = [*model.trainable_variables, *estimator.trainable_variables]
    start = [v.numpy().astype(np.float64) for v in variables]
    taken = []
    for step in range(2):
        draws = noise.latents(noise.key(0, "latents", step), 1, 4, model.n_units)
        estimate = estimator.estimate(model, x, draws)
        taken.append([*estimate.gradients, *estimate.control_gradients])
        learner.step(x, draws)
    rates = {"q": 0.01, "p": 0.02, "prior": None}
    checked = {"q": 0, "p": 0, "prior": 0, "control": 0}
    for i, v in enumerate(variables):
        gradients = [np.asarray(g[i], np.float64) for g in taken]
        if i >= len(model.trainable_variables):
            part, expected = "control", adam(start[i], gradients, 0.003)
        elif v.path.startswith("prior"):
            part, expected = "prior", start[i] - 0.5 * sum(gradients)
        else:
            part = v.path[0]
            expected = adam(start[i], gradients, rates[part])
        checked[part] += 1
        assert np.any(np.abs(expected - start[i]) > 1e-3)
        np.testing.assert_allclose(v.numpy(), expected, atol=2e-6, err_msg=v.path)
    assert checked == {"q": 4, "p": 4, "prior": 1, "control": 4}
    assert learner.steps == 2


def test_control_variates_learn_ten_times_as_fast():
    """The first step of Adam has the size of the rate where a gradient is not small."""
    learner = tiny.learner("learning_rate=0.01")
    variables = [*learner.model.trainable_variables, *learner.estimator.trainable_variables]
    start = [v.numpy() for v in variables]
    draws = noise.latents(noise.key(0, "latents"), 1, 4, learner.model.n_units)
    learner.step(tf.cast(tiny.images(4), tf.float32), draws)
    sizes = [np.max(np.abs(v - s)) for v, s in zip(variables, start, strict=True)]
    split = len(learner.model.trainable_variables)
    np.testing.assert_allclose(sizes[:split], 0.01, rtol=1e-3)
    np.testing.assert_allclose(sizes[split:], 0.1, rtol=1e-3)


def radam(value, gradients, rate, beta2):
    """Liu et al. 2020, algorithm 2, with the threshold 5, number by number."""
    m, v = 0.0, 0.0
    longest = 2 / (1 - beta2) - 1
    for t, g in enumerate(gradients, 1):
        m = BETA1 * m + (1 - BETA1) * g
        v = beta2 * v + (1 - beta2) * g**2
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        step = rate * m / (1 - BETA1**t)
        if length > 5:
            numerator = (length - 4) * (length - 2) * longest
            step *= np.sqrt(numerator / ((longest - 4) * (longest - 2) * length))
            step /= (np.sqrt(v) + EPSILON) / np.sqrt(1 - beta2**t)
        value = value - step
    return value


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("beta2", [0.9, 0.999])
def test_radam_is_rectified_from_the_sixth_step_on(beta2, jit):
    """With beta2 = .999; with .9, too: rho_t passes 5 between the fifth and the sixth step."""
    gradients = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    gradients[:, 3] = [0] * 8 + [1]
    variable = keras.Variable(np.zeros(4, np.float32))
    optimizer = build("radam", 0.1, beta2, [variable])
    step = tf.function(
        lambda g: optimizer.apply_after(tf.constant(True), [g], [variable]), jit_compile=jit
    )
    for t in range(1, 10):
        step(tf.constant(gradients[t - 1]))
        expected = radam(np.zeros(4), gradients[:t].astype(np.float64), 0.1, beta2)
        np.testing.assert_allclose(variable, expected, rtol=1e-4, atol=1e-6)
    other = adam(np.zeros(4), gradients.astype(np.float64), 0.1)
    assert np.max(np.abs(variable - other)) > 0.05


def test_the_optimizer_of_the_model_comes_from_the_hparams():
    learner = tiny.learner("optimizer=radam,learning_rate_generator=0.02,learning_rate_prior=0.5")
    kinds = {name: type(optimizer) for name, (optimizer, _) in learner._updates.items()}
    assert kinds == {
        "optimizer": FusedRAdam,
        "generator_optimizer": FusedRAdam,
        "prior_optimizer": FusedAdam,
        "control_optimizer": FusedAdam,
    }


def test_nothing_changes_without_these_hparams():
    """Names in checkpoints are those of one Adam for the model and one for control variates."""
    names = list(tiny.learner().named_variables())
    model_state = [n for n in names if n.startswith("optimizer/")]
    assert model_state[:2] == ["optimizer/0/iteration", "optimizer/1/learning_rate"]
    assert len(model_state) == 2 + 2 * 5
    assert {n.partition("/")[0] for n in names} == {
        *("model", "estimator", "optimizer", "control_optimizer", "moments"),
    }
    separate = list(tiny.learner(RATES).named_variables())
    added = {n.partition("/")[0] for n in separate} - {n.partition("/")[0] for n in names}
    assert added == {"generator_optimizer", "prior_optimizer"}
    # Gradient descent keeps nothing but its rate and a count.
    state = [n for n in separate if n.startswith("prior_optimizer/")]
    assert state == ["prior_optimizer/0/iteration", "prior_optimizer/1/learning_rate"]


def test_the_same_rate_for_all_is_the_same_training():
    """A rate of its own that is equal to learning_rate changes the bookkeeping only."""
    together, apart = (
        tiny.learner(h) for h in ("", "learning_rate_generator=0.01,learning_rate_prior=0.01")
    )
    for learner in (together, apart):
        Blocks(learner, DATA.train, 4).take(0, 3)
    for a, b in zip(together.model.variables, apart.model.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_frozen_generators_have_no_optimizer():
    model = model_of("")
    estimator = NVIL()
    estimator.setup(model)
    rates = Rates(generator=0.1, prior=0.1, prior_optimizer="sgd")
    learner = Learner(model, estimator, 0.01, freeze_generator=True, rates=rates)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    draws = noise.latents(noise.key(0, "latents"), 1, 4, model.n_units)
    learner.step(tf.cast(tiny.images(4), tf.float32), draws)
    moved = [v.path for v in model.trainable_variables if np.any(v.numpy() != before[v.path])]
    assert moved == Q


@pytest.mark.parametrize("finite", [True, False])
def test_gradient_descent_stands_still_where_a_number_is_not_finite(finite):
    variable = tiny.learner().model.prior.logits
    optimizer = FusedSGD(0.5)
    optimizer.build([variable])
    gradient = tf.constant([1.0, -2.0, 3.0])
    optimizer.apply_after(tf.constant(finite), [gradient], [variable])
    np.testing.assert_allclose(variable, -0.5 * finite * gradient)


def run(folder, steps, hparams=RATES):
    run = tiny.run(folder, DATA, hparams, training_steps=steps)
    run.train()
    return tiny.values(run.learner)


@pytest.mark.parametrize("stop", [3, 4, 7])
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path, stop):
    """In the middle of an epoch, after its last full minibatch, and in the second epoch."""
    whole = run(tmp_path / "whole", 12)
    run(tmp_path / "parts", stop)
    tiny.assert_same(run(tmp_path / "parts", 12), whole)
    saved = checkpoint.latest(tmp_path / "parts").variables
    assert int(saved["prior_optimizer/0/iteration"]) == 12
    assert int(saved["generator_optimizer/0/iteration"]) == 12


TRACKED_PARTS = "model=SBNTrackGradVariances,track=[NVIL,Parts],follow=NVIL"
OF_PARTS = {
    "model=Parts": ["output/kernel", "output"],
    TRACKED_PARTS: ["Parts/output/kernel", "Parts/output"],
}


@pytest.mark.parametrize("hparams", OF_PARTS)
def test_parts_of_control_variates_have_names_in_checkpoints_and_resume(
    tmp_path, hparams, own_registry
):
    own_registry.register("Parts", tiny.Parts)
    whole = run(tmp_path / "whole", 12, hparams)
    run(tmp_path / "parts", 7, hparams)
    tiny.assert_same(run(tmp_path / "parts", 12, hparams), whole)
    counts = [name.removesuffix("/0/iteration") for name in whole if name.endswith("iteration")]
    parts = [f"control_optimizer/{part}" for part in OF_PARTS[hparams]]
    assert counts == ["optimizer", "control_optimizer", *parts]


@pytest.mark.parametrize("rates", [{"outptu": (1.0, 0.9)}, {"out": (1, 0.9), "output": (1, 0.9)}])
def test_a_rate_of_no_weight_is_refused(rates, monkeypatch, own_registry):
    own_registry.register("Parts", tiny.Parts)
    monkeypatch.setattr(tiny.Parts, "control_rates", rates)
    names = "nvil_baseline_hidden/kernel, .*, nvil_baseline_output/bias$"
    for hparams in OF_PARTS:
        with pytest.raises(RebarError, match=f"of Parts: '{[*rates][-1]}' .* names {names}"):
            tiny.learner(hparams)


def test_compiled_steps_equal_interpreted_ones_to_rounding():
    results = []
    for jit in (False, True):
        learner = tiny.learner(RATES)
        taken = Blocks(learner, tiny.images(12), 4, jit=jit).take(0, 3)
        results.append((taken.table, tiny.values(learner)))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=2e-4, atol=1e-6)
    tiny.assert_same(results[1][1], results[0][1], rtol=2e-3, atol=2e-5)


def test_what_is_refused():
    model = model_of("")

    class Own:
        trainable_variables = model.trainable_variables
        inference_variables = model.inference_variables

    assert parts(Own, generator=0.1)["generator_optimizer"] == ["prior/logits", *P]
    with pytest.raises(RebarError, match="has no attribute prior_variables"):
        for_model(Own(), [], 0.01, BETA2, Rates(prior=0.1))
