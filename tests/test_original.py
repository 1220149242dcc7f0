"""The 2017 classes: what partial_fit, partial_grad and partial_eval take, return and change."""

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise
from rebar.errors import RebarError

NAMES = {
    "SBN": 2,
    "SBNNVIL": 1,
    "SBNSimpleMuProp": 2,
    "SBNMuProp": 2,
    "SBNRebar": 6,
    "SBNDynamicRebar": 7,
    "SBNGumbel": 2,
    "SBNTrackGradVariances": 1,
}
"""Class -> how many numbers it reports: ELBO, metrics, an eta for each of 5 weight tensors."""

X = (np.random.default_rng(0).random((4, 6)) < 0.5).astype(np.float32)


def make(name="SBNNVIL", hparams="", **options):
    settings = rebar.HParams.parse(
        "n_hidden=3,learning_rate=0.01,track=[NVIL],follow=NVIL", hparams
    )
    return getattr(rebar, name)(settings, np.full(6, 0.5), **options)


def snapshot(variables):
    return [v.numpy().copy() for v in variables]


@pytest.fixture
def eagerly():
    """Run what would be traced once and called once, without a graph."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def moved(before, variables):
    return [not np.array_equal(b, v.numpy()) for b, v in zip(before, variables, strict=True)]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", NAMES)
def test_every_class_fits_evaluates_and_gives_its_gradient(name):
    sbn = make(name)
    assert sbn.hparams.model == name
    model = sbn.learner.model
    before = snapshot(model.trainable_variables)
    gradients, step = sbn.partial_grad(X)
    assert step == 0
    assert [g.shape for g in gradients] == [tuple(v.shape) for v in model.trainable_variables]
    assert not any(moved(before, model.trainable_variables))

    lhat, variance, step, temperature = sbn.partial_fit(X)
    assert step == 1
    assert temperature == 0.5
    assert all(isinstance(value, float) for value in lhat)
    values = sbn.partial_eval(X, n_samples=7)
    assert all(isinstance(value, float) for value in values)
    assert all(moved(before, model.trainable_variables))
    if name == "SBNTrackGradVariances":
        assert variance == {"NVIL": 0.0}
        assert len(lhat) == 1 + 2  # ELBO, deviation, log mean square
        assert len(values) == 2
    else:
        assert variance == 0.0
        assert len(lhat) == NAMES[name]
        assert len(values) == 1 + NAMES[name]
    assert values[1] <= values[0] < 0


@pytest.mark.parametrize("n_samples", [1, 3])
def test_partial_grad_is_what_partial_fit_then_applies(n_samples):
    """Adam's first moment m becomes .9 m + .1 g."""
    sbn = make("SBNMuProp", "n_layer=2")
    sbn.partial_fit(X, n_samples)
    first = [v for v in sbn.learner.optimizer.variables if v.path.endswith("_momentum")]
    before = snapshot(first)
    gradients, step = sbn.partial_grad(X, n_samples)
    again, _ = sbn.partial_grad(X, n_samples)
    assert step == 1
    sbn.partial_fit(X, n_samples)
    for m, now, g, same in zip(before, first, gradients, again, strict=True):
        np.testing.assert_array_equal(g, same)
        np.testing.assert_allclose(now.numpy(), 0.9 * m + 0.1 * g, rtol=1e-5, atol=1e-6)
    other, _ = sbn.partial_grad(X, n_samples)
    assert not np.array_equal(other[1], gradients[1])


def test_reported_values_are_those_before_the_step():
    sbn = make("SBNDynamicRebar")
    moments, temperatures = sbn.learner.moments, []
    for _ in range(3):
        variance_before = float(moments.values()[0][""])
        temperature_before = float(tf.exp(sbn.learner.estimator.log_temperature_value()))
        lhat, variance, _, temperature = sbn.partial_fit(X)
        assert variance == variance_before
        np.testing.assert_allclose([temperature, lhat[1]], temperature_before, rtol=1e-6)
        temperatures.append(temperature)
    assert len(set(temperatures)) == 3


def test_the_scale_of_the_moments_does_not_shrink_for_ever(monkeypatch):
    """After 88,000 steps it would be 0 in float32."""
    monkeypatch.setattr("rebar.original.BLOCK", 3)
    sbn = make("SBNNVIL")
    scales = []
    for _ in range(7):
        sbn.partial_fit(X)
        scales.append(float(sbn.learner.moments.named_variables()["moments/scale"]))
    np.testing.assert_allclose(scales, [0.999 ** (1 + i % 3) for i in range(7)], rtol=1e-6)


def test_variances_of_tracked_methods():
    sbn = make("SBNTrackGradVariances", "track=[REINFORCE,NVIL],follow=NVIL")
    sbn.partial_fit(X)
    lhat, variances, step, _ = sbn.partial_fit(X)
    assert list(variances) == ["REINFORCE", "NVIL"]
    assert all(isinstance(v, float) and v > 0 for v in variances.values())
    assert step == 2
    assert len(lhat) == 1 + 2 + 1


@pytest.mark.parametrize("name", ["SBNMuProp", "SBNDynamicRebar"])
def test_eval_mode_trains_the_recognition_network_and_the_control_variates(name):
    """At two layers, where p(b_1 | b_2) is frozen, too."""
    sbn = make(name, "n_layer=2", eval_mode=True)
    learner = sbn.learner
    model = learner.model
    inference = {id(v) for v in model.inference_variables}
    frozen = [v for v in model.trainable_variables if id(v) not in inference]
    assert len(inference) == 4
    assert len(frozen) == 5  # two weights and two biases of p, and the prior
    before = [
        snapshot(v)
        for v in (frozen, model.inference_variables, learner.estimator.trainable_variables)
    ]
    for _ in range(2):
        sbn.partial_fit(X)
    assert not any(moved(before[0], frozen))
    assert all(moved(before[1], model.inference_variables))
    control = moved(before[2], learner.estimator.trainable_variables)
    assert all(control)
    gradients, _ = sbn.partial_grad(X)
    assert len(gradients) == len(model.trainable_variables)


def test_conditional_tasks_have_conditional_models():
    sbn = make("SBNNVIL", "task=sp,n_layer=2")
    assert sbn.learner.model.objective_name.startswith("conditional=multilayer")
    lhat, *_ = sbn.partial_fit(X)
    assert np.isfinite(lhat[0])


def test_noise_is_that_of_the_seed_the_trial_and_the_step():
    """The model stays as it is, so that only its noise can make a difference."""

    def elbos(hparams="", **options):
        sbn = make("SBNNVIL", f"learning_rate=1e-30,{hparams}", **options)
        return tuple(sbn.partial_fit(X)[0][0] for _ in range(2))

    same = elbos(seed=1)
    assert same == elbos(seed=1)
    assert len({same, elbos(seed=2), elbos("trial=2", seed=1)}) == 3
    assert same[0] != same[1]


@pytest.mark.parametrize("n_samples", [1, 2])
def test_branches_are_those_of_the_seed_the_trial_and_the_step(n_samples):
    """By way of a tracker: the class of 2017 that can hold an estimator with branches."""
    sbn = make(
        "SBNTrackGradVariances",
        "n_layer=2,track=[ARM],follow=ARM,continuation=independent,trial=3",
        seed=5,
    )
    model, estimator = sbn.learner.model, sbn.learner.estimator
    for step in (0, 1):
        main = noise.latents(noise.key((5, 3), "latents", step), n_samples, len(X), model.n_units)
        draws = noise.with_branches(main, noise.key((5, 3), "branches", step))
        expected = estimator.estimate(model, tf.constant(X), draws).gradients
        shared = estimator.estimate(
            model, tf.constant(X), draws._replace(branches=((draws.uniforms[1],), ()))
        ).gradients
        found, _ = sbn.partial_grad(X, n_samples)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert not np.allclose(found[1], shared[1], rtol=1e-3, atol=1e-3)
        sbn.partial_fit(X, n_samples)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "batch",
    [
        X.astype(np.uint8),
        X.astype(np.float64),
        X.tolist(),
        tf.constant(X),
        tf.constant(X, tf.float64),
        tf.constant(X.astype(np.uint8)),
    ],
)
def test_batches_of_any_type_give_the_same_numbers(batch):
    assert make().partial_eval(batch) == make().partial_eval(X)
    np.testing.assert_array_equal(make().partial_grad(batch)[0][1], make().partial_grad(X)[0][1])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[0], r"\[6\].*\[n, 6\]"),
        (X[:, :5], r"\[4, 5\].*\[n, 6\]"),
        (X[:0], r"\[0, 6\].*at least one"),
        (X[np.newaxis], r"\[1, 4, 6\]"),
        ([[0, 1], [1]], "must be an array"),
        ([["a"] * 6], "dtype"),
        (X * np.nan, "not finite"),
        (3 * X, r"from 0 to 3.*\[0, 1\]"),
    ],
)
def test_wrong_batches_are_refused(x, message):
    sbn = make()
    for call in (sbn.partial_fit, sbn.partial_grad, sbn.partial_eval):
        with pytest.raises(RebarError, match=message):
            call(x)
    assert sbn.learner.steps == 0


@pytest.mark.parametrize("n_samples", [0, -1, 1.5])
def test_wrong_numbers_of_samples_are_refused(n_samples):
    sbn = make()
    for call in (sbn.partial_fit, sbn.partial_grad, sbn.partial_eval):
        with pytest.raises(RebarError, match=rf"n_samples={n_samples}"):
            call(X, n_samples)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(RebarError, match=r"n_input=5: .*6"):
        make(hparams="n_input=5")
    with pytest.raises(RebarError, match=r"seed=\(-1, 1\): "):
        make(seed=-1)
    with pytest.raises(RebarError, match="input_mean of shape"):
        rebar.SBN(rebar.HParams(), np.full((2, 3), 0.5))
    with pytest.raises(RebarError, match="n_input=5: must be even"):
        rebar.SBN(rebar.HParams(task="sp"), np.full(5, 0.5))


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", [n for n in rebar.registry.names() if n not in NAMES])
def test_every_model_has_a_class(name):
    assert name in dir(rebar)
    kind = getattr(rebar, name)
    assert kind is getattr(rebar, name)
    assert kind.model_name == name
    least = rebar.registry.entry(name).n_samples(1)
    track = "track=[ST],follow=ST" if "Track" in name else f"n_samples={least}"
    hparams = rebar.HParams.parse({"model": name}, track)
    lhat, _, step, _ = kind(hparams, np.full(6, 0.5)).partial_fit(X, n_samples=least)
    assert step == 1
    assert np.isfinite(lhat[0])


@pytest.mark.parametrize("hparams", ["n_layer=2,n_hidden=3", "n_hidden=3"])
def test_a_string_is_enough(hparams):
    assert rebar.SBNRebar(hparams, np.full(6, 0.5)).hparams.n_hidden == 3


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: rebar.SBNRebar(3, np.full(6, 0.5)), "3.*must be a string"),
        (lambda: rebar.SBNGumbel("model=SBNRebar", np.full(6, 0.5)), "model=SBNRebar"),
        (lambda: rebar.SBNRebar("model=SBNGumbel", np.full(6, 0.5)), "model=SBNGumbel"),
        (lambda: rebar.SBNRebar(rebar.HParams(model="SBN"), np.full(6, 0.5)), "model=SBN"),
        (lambda: rebar.load_model(None), r"load_model\(None\)"),
        (lambda: rebar.load_model(3), r"load_model\(3\)"),
    ],
)
def test_python_mistakes(mistake, message):
    with pytest.raises(RebarError, match=message):
        mistake()


def test_every_listed_name_is_reachable():
    assert all(hasattr(rebar, name) for name in dir(rebar))
    with pytest.raises(AttributeError, match="did you mean SBNDisARM"):
        rebar.SBNDisarm  # noqa: B018
