"""Every name and every hyperparameter: the estimate is that of the formula, through every door.

A setting that a formula reads changes the estimate as the formula says, and one that it does not
read changes nothing. A new hyperparameter or a new name without a test fails.
"""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise, registry
from rebar.data.sources import TASKS
from rebar.errors import RebarError
from rebar.estimators.base import checked_estimate
from rebar.factory import make_model
from rebar.hparams import HParams
from rebar.testing.problems import dtype_policy, randomize
from rebar.training.run import Run
from tests.conformance import literal
from tests.conformance.literal import models

OF_ESTIMATORS = {
    "temperature": 0.37,
    "n_samples": None,
    "muprop_relaxation": False,
    "quadratic": False,
    "coupling": "all",
    "continuation": "independent",
    "symmetrized": False,
    "multi_sample": True,
    "legacy2017": True,
    "mc_samples": 4,
    "gst_gap": 1.7,
    "cv_scale": -0.4,
    "cv_form": "stgs",
    "rk2_beta": 0.8,
    "rk2_form": "released",
    "vimco_mean": "arithmetic",
    "track": None,
    "follow": None,
}
"""Hyperparameters of estimators, and unusual values; None: changed in the tests themselves."""

OF_MODELS = {
    *("n_hidden", "n_input", "n_layer", "nonlinear", "conditional", "activation", "initializer"),
    *("n_categories", "n_latents", "latents", "prior", "likelihood"),
    "task",
}
"""Settings of models: tests/conformance/test_model_settings.py."""

OF_OPTIMIZERS = {
    *("learning_rate", "beta2", "optimizer", "learning_rate_generator", "learning_rate_prior"),
    *("prior_optimizer", "learning_rate_control"),
}
"""Settings of updates: tests/conformance/test_updates.py."""

OF_RUNS = {"model", "batch_size", "trial", "dynamic_b"}
"""Settings of runs: tests/conformance/test_reported_numbers.py."""

OF_PLUGINS = {"custom", "network"}
"""Settings of plug-ins: tests/hparams/test_custom.py, tests/hparams/test_network.py."""

ALONE = [name for name in registry.names() if not registry.entry(name).tracks]
TRACKERS = [name for name in registry.names() if registry.entry(name).tracks]
MEAN = np.linspace(0.2, 0.7, 6)
BATCH = 3


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Models in float64; networks of the categorical VAE with few units."""
    models.narrow(monkeypatch)
    with dtype_policy("float64"):
        yield


def test_every_name_has_a_formula_and_every_hyperparameter_a_test():
    assert set(literal.FORMULAS) == set(registry.names())
    fields = [field.name for field in dataclasses.fields(HParams)]
    assert sorted(fields) == sorted(
        [*OF_ESTIMATORS, *OF_MODELS, *OF_OPTIMIZERS, *OF_RUNS, *OF_PLUGINS]
    )


def settings_of(name, **changes) -> HParams:
    """Tiny sizes, settings that are not the default, and changes; RebarError if refused."""
    entry = registry.entry(name)
    values = {"model": name, "temperature": 0.8, "n_samples": entry.n_samples(3)}
    if entry.latents == "binary":
        values |= {"n_layer": 2, "n_hidden": 2}
    else:
        values |= {"n_latents": 2, "n_categories": 3, "prior": "learned"}
        values |= {"mc_samples": 3, "cv_scale": 0.6, "rk2_beta": 0.3, "task": "digits_grey"}
    if entry.tracks:
        track = tuple(registry.labels(entry.latents))[::4]
        values |= {"track": track, "follow": track[-1], "n_samples": 4}
    values |= changes
    values["n_samples"] = entry.n_samples(values["n_samples"])
    return HParams(**values)


@functools.cache
def _weights(latents):
    settings = settings_of(registry.names(latents)[0])
    model = make_model(settings, MEAN, TASKS[settings.task].conditional)
    randomize(model.trainable_variables, 5, 1.0)
    return model.get_weights()


def model_of(settings):
    """A tiny model, with the same random weights for all estimators."""
    model = make_model(settings, MEAN, TASKS[settings.task].conditional)
    model.set_weights(_weights(settings.entry.latents))
    return model


def estimator_of(settings, model):
    """The estimator of settings, set up for a model, with random control variates."""
    estimator = registry.make_estimator(settings.model, settings)
    estimator.setup(model, 2)
    return with_random_control(estimator)


def with_random_control(estimator):
    """Baselines are not 0 and scales not 1; temperatures stay those of the settings."""
    fixed = {id(member.log_temperature) for member in estimator.members().values()}
    randomize([v for v in estimator.trainable_variables if id(v) not in fixed], 7, 0.4)
    return estimator


def inputs(model, n_samples, seed=1):
    """Images of two of each kind of pixel, and noise with branches."""
    latents = noise.latents(
        noise.key(seed, "latents", 3), n_samples, BATCH, model.n_units, "float64"
    )
    width = model.input_mean.shape[0]
    x = np.random.default_rng(8).integers(0, 2, [BATCH, width]).astype(np.float64)
    return tf.constant(x), noise.with_branches(latents, noise.key(seed, "branches", 3))


def of_estimator(settings, model):
    """Estimate of the estimator that settings name."""
    return checked_estimate(
        estimator_of(settings, model), model, *inputs(model, settings.n_samples)
    )


def of_formula(settings, model):
    """Estimate by the formula, and the names of the settings that it reads."""
    reads = Reads(settings)
    estimator = estimator_of(settings, model)
    x, draws = inputs(model, settings.n_samples)
    gradients, control = literal.estimate(settings.model, model, x, draws, reads, estimator)
    return gradients, control, reads.names


class Reads:
    """Settings that remember which of them were read."""

    def __init__(self, settings):
        self._settings, self.names = settings, set()

    def __getattr__(self, name):
        self.names.add(name)
        return getattr(self._settings, name)


def assert_equal(estimate, gradients, control, tolerance=1e-9):
    """Gradients agree up to rounding, relative to the largest component of each tensor."""
    pairs = [*zip(estimate.gradients, gradients, strict=True)]
    pairs += zip(estimate.control_gradients, control, strict=True)
    for actual, expected in pairs:
        size = np.max(np.abs(expected)) if np.size(expected) else 0
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * (size + 1e-3))


def difference(a, b):
    """Largest difference of two estimates' gradients."""
    pairs = zip([*a.gradients], [*b.gradients], strict=True)
    return max(float(np.max(np.abs(np.subtract(u, v)))) for u, v in pairs)


@pytest.mark.parametrize("name", ALONE)
def test_each_setting_has_the_stated_effect_and_no_other(name):
    base = settings_of(name)
    model = model_of(base)
    before = of_estimator(base, model)
    gradients, control, read = of_formula(base, model)
    assert_equal(before, gradients, control)
    assert max(np.max(np.abs(g)) for g in gradients) > 1e-3

    unread = {}
    for field, value in values_of(base).items():
        if field not in read:
            unread[field] = value
            continue
        changed = settings_of(name, **{field: value})
        after = of_estimator(changed, model)
        assert difference(before, after) > 1e-6, field
        gradients, control, _ = of_formula(changed, model)
        assert_equal(after, gradients, control)
    # Those that the formula does not read have no effect, also with other numbers of samples.
    changed = settings_of(name, **unread, n_samples=2 * base.n_samples)
    gradients, control, _ = of_formula(changed, model)
    assert_equal(of_estimator(changed, model), gradients, control)


DECLARED = [
    ("SBNARMS", "n_antithetic", 5),
    ("SBNOVIS", "ovis_gamma", 0.7),
    ("SBNOVIS", "ovis_samples", 3),
    ("CatCARMS", "n_antithetic", 4),
    ("CatUNORD", "n_codes", 4),
    ("CatSumAndSample", "n_exact", 2),
    *((name, "redge_steps", 3) for name in ("CatReDGE", "CatReinDGE")),
    *((name, "redge_end", 0.8) for name in ("CatReDGE", "CatReinDGE")),
    ("CatDecoupledST", "forward_temperature", 0.6),
    ("CatDecoupledST", "backward_temperature", 1.7),
]
"""Name, hyperparameter that it declares, and an unusual value."""


def test_every_declared_setting_has_a_test():
    declared = {(name, parameter) for name in ALONE for parameter in registry.entry(name).hparams}
    declared -= {("SBNRODEO", "rodeo_hidden")}  # the shape of weights that the formula reads
    assert declared == {(name, parameter) for name, parameter, _ in DECLARED}


def test_invalid_values_of_declared_settings_are_refused():
    values = {"n_antithetic": 1, "rodeo_hidden": 0, "n_codes": 8, "n_exact": 0}
    values |= {"ovis_gamma": 1.1, "ovis_samples": -1, "redge_steps": 1, "redge_end": 1.0}
    values |= {"forward_temperature": 0.0, "backward_temperature": -1.0}
    for name in ALONE:
        for parameter in registry.entry(name).hparams:
            settings = settings_of(name, custom=((parameter, values[parameter]),))
            with pytest.raises(RebarError, match=f"^{parameter}=.*: must be "):
                registry.make_estimator(name, settings)


@pytest.mark.parametrize(("name", "parameter", "value"), DECLARED)
def test_a_declared_setting(name, parameter, value):
    settings = settings_of(name, custom=((parameter, value),))
    model = model_of(settings)
    gradients, control, read = of_formula(settings, model)
    assert "custom" in read
    estimate = of_estimator(settings, model)
    assert_equal(estimate, gradients, control)
    assert difference(estimate, of_estimator(settings_of(name), model)) > 1e-6


def values_of(settings) -> dict:
    """Field -> unusual value, for the fields that apply to a model."""
    kinds = {None, settings.entry.latents}
    values = {
        field: value
        for field, value in OF_ESTIMATORS.items()
        if value is not None and HParams.__dataclass_fields__[field].metadata["latents"] in kinds
    }
    if not settings.entry.multi_sample:
        del values["multi_sample"]
        with pytest.raises(RebarError):
            settings_of(settings.model, multi_sample=True)
    return values


def all_unusual(name) -> HParams:
    """All settings of estimators at unusual values together."""
    values = values_of(settings_of(name))
    return settings_of(name, **values, trial=3, batch_size=BATCH)


def through_class(settings, monkeypatch, tmp_path):
    learner = getattr(rebar, settings.model)(settings, MEAN).learner
    return learner.model, with_random_control(learner.estimator)


def through_train(settings, monkeypatch, tmp_path):
    monkeypatch.setattr(Run, "train", lambda run: None)
    task = "digits_grey" if settings.entry.latents == "categorical" else "digits"
    values = settings.values() | {"task": task}
    trained = rebar.train(values, working_dir=tmp_path, log_format="quiet", jit="off")
    return trained.model, with_random_control(trained.estimator)


@pytest.mark.parametrize("door", [through_class, through_train])
@pytest.mark.parametrize("name", registry.names())
def test_every_door_leads_to_the_same_estimate(name, door, monkeypatch, tmp_path):
    settings = all_unusual(name)
    assert HParams.parse(settings.format()) == settings
    model, estimator = door(settings, monkeypatch, tmp_path)
    x, draws = inputs(model, settings.n_samples)
    after = checked_estimate(estimator, model, x, draws)
    expected = of_estimator(settings, model)
    assert difference(after, expected) == 0
    for a, b in zip(after.control_gradients, expected.control_gradients, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_gives_each_estimator_and_follows_the_stated_one(name):
    latents = registry.entry(name).latents
    names = registry.labels(latents)
    base = settings_of(name, n_samples=4, temperature=0.37)
    model = model_of(base)
    x, draws = inputs(model, base.n_samples)
    alone = {label: of_estimator(base.replace(model=names[label]), model) for label in names}
    for label, followed in zip(names, [*names][3:] + [*names][:3], strict=True):
        settings = base.replace(track=(label, followed), follow=followed)
        tracker = registry.make_estimator(name, settings)
        tracker.setup(model, 2)
        control = []
        for member in tracker.members().values():
            with_random_control(member)
        estimate = checked_estimate(tracker, model, x, draws)
        assert [*estimate.tracked] == [label, followed]
        for member in estimate.tracked:
            control += alone[member].control_gradients
            expected = alone[member]._replace(control_gradients=[])
            assert_equal(expected, estimate.tracked[member], [], 1e-12)
        assert_equal(estimate, alone[followed].gradients, control, 1e-12)
        assert difference(alone[label], alone[followed]) > 1e-6


def test_a_preset_sets_what_it_states_and_changes_override_it(monkeypatch, tmp_path):
    monkeypatch.setattr(Run, "train", lambda run: None)
    changes = {"task": "digits", "n_hidden": 3, "model": "SBNGumbel", "learning_rate": 0.02}
    trained = rebar.train(
        preset="disarm_linear2", working_dir=tmp_path, log_format="quiet", seed=4, **changes
    )
    stated = dict(pair.split("=") for pair in rebar.preset("disarm_linear2").split(","))
    values = trained.hparams.to_dict()
    assert changes.items() <= values.items()
    for name in stated.keys() - changes.keys():
        assert str(values[name]).lower() == stated[name]
    untouched = HParams().to_dict().keys() - stated.keys() - changes.keys()
    assert all(values[name] == HParams().to_dict()[name] for name in untouched)
    assert trained.estimator.temperature == 0.1
