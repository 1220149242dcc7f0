"""Hyperparameters of models: sizes, networks and f are those of the settings, by every door."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise, registry
from rebar.data.sources import TASKS
from rebar.errors import RebarError
from rebar.factory import make_model
from rebar.hparams import HParams
from rebar.testing.problems import dtype_policy
from rebar.training.run import Run
from tests.conformance.literal import models

MEAN = np.linspace(0.1, 0.8, 64)

CASES = {
    "SBN": "",
    "wide": "n_hidden=5",
    "deep": "n_layer=3",
    "n_input": "n_input=64",
    "nonlinear": "nonlinear=true",
    "leaky": "nonlinear=true,activation=leaky_relu",
    "glorot": "initializer=glorot",
    "conditional": "task=sp_digits",
    "conditional single": "task=sp_digits,n_layer=1",
    "conditional 2017": "task=sp_digits,conditional=2017",
    "conditional multilayer": "task=sp_digits,n_layer=1,conditional=multilayer,nonlinear=true",
    "conditional legacy": "task=sp_digits,legacy2017=true",
    "categorical": "model=CatST",
    "categories": "model=CatST,n_categories=5",
    "latents": "model=CatST,n_latents=2",
    "prior": "model=CatST,prior=learned",
    "gray": "model=CatST,task=digits_grey",
    "fixed prior": "prior=uniform",
    "gaussian": "task=digits_grey,likelihood=gaussian,prior=uniform",
    "gaussian, learned prior": "task=digits_grey,likelihood=gaussian,prior=learned",
    "gaussian categorical": "model=CatST,task=digits_grey,likelihood=gaussian",
    "mixed": "latents=[3,3x2]",
    "gaussian mixed": "latents=[3,3x2],task=digits_grey,likelihood=gaussian,nonlinear=true",
    "three layers": "model=CatReinMax,latents=[3x2,4,2],nonlinear=true",
    "conditional mixed": "latents=[2,3x2,2x3],task=sp_digits",
    "conditional mixed 2017": "latents=[2,3x2],task=sp_digits,conditional=2017",
    "conditional single mixed": "model=CatLOO,n_samples=2,latents=[3x2],task=sp_digits",
}
"""Name -> changes, by clauses of --hparams."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Models in float64; networks of the categorical VAE with few units."""
    models.narrow(monkeypatch)
    with dtype_policy("float64"):
        yield


def settings_of(changes) -> HParams:
    sizes = "n_categories=4,n_latents=3" if "Cat" in changes else "n_hidden=3,n_layer=2"
    sizes = "" if "latents=[" in changes else sizes
    return HParams.parse(f"model=SBNNVIL,task=digits,{sizes}", changes)


def kind_of(settings) -> str:
    """Kind of `literal.models`, from the settings."""
    if registry.entry(settings.model).latents == "categorical" and not settings.latents:
        return "categorical"
    if not TASKS[settings.task].conditional:
        return "unconditional"
    if settings.conditional != "auto":
        return settings.conditional
    single = len(settings.latents) == 1 if settings.latents else settings.n_layer == 1
    return "2017" if settings.legacy2017 or single else "multilayer"


def from_factory(settings, monkeypatch, tmp_path):
    return make_model(settings, MEAN, TASKS[settings.task].conditional, (0, 1))


def from_class(settings, monkeypatch, tmp_path):
    return getattr(rebar, settings.model)(settings, MEAN).learner.model


def from_train(settings, monkeypatch, tmp_path):
    monkeypatch.setattr(Run, "train", lambda run: None)
    return rebar.train(settings.format(), working_dir=tmp_path, log_format="quiet").model


def shapes(settings) -> list:
    """Shapes of the kernels and biases of p, then q, by the settings; the prior first."""
    kind, pixels = kind_of(settings), len(MEAN)
    variances = [(pixels,)] * (settings.likelihood == "gaussian")
    if kind == "categorical":
        units = settings.n_latents * settings.n_categories
        layers = [pixels, *models.NARROW, units]
        prior = [(settings.n_latents, settings.n_categories)] * (settings.prior == "learned")
        pairs = [*itertools.pairwise(layers), *itertools.pairwise(layers[::-1])]
        return sorted(variances + prior + [shape for a, b in pairs for shape in ((a, b), (b,))])
    layers = [[int(n) for n in text.split("x")[::-1]] for text in settings.latents]
    layers = layers or [[settings.n_hidden]] * settings.n_layer
    widths, half = [math.prod(layer) for layer in layers], pixels // 2
    n_output = pixels if kind == "unconditional" else half
    # Input, output and the width of two hidden layers, if nonlinear.
    up = [*itertools.pairwise([half if kind == "2017" else pixels, *widths])]
    down = [(widths[-1], half)] if kind == "2017" else itertools.pairwise([*widths[::-1], n_output])
    maps = [(a, b, b) for a, b in up] + [(a, b, a) for a, b in down]
    if kind == "multilayer":
        maps += [(half, widths[-1], widths[-1])]
    if settings.nonlinear:
        maps = [pair for a, b, h in maps for pair in ((a, h), (h, h), (h, b))]
    prior = [tuple(layers[-1])] * (kind == "unconditional" and settings.prior != "uniform")
    return sorted(variances + prior + [shape for a, b, *_ in maps for shape in ((a, b), (b,))])


DOORS = [
    *((changes, from_factory) for changes in CASES.values()),
    *(
        (CASES[name], door)
        for name in (
            "leaky",
            "conditional multilayer",
            "conditional legacy",
            "gray",
            "prior",
            "gaussian",
            "mixed",
        )
        for door in (from_class, from_train)
    ),
]


@pytest.mark.parametrize(("changes", "door"), DOORS)
def test_a_model_has_the_sizes_and_the_objective_of_its_settings(
    changes, door, monkeypatch, tmp_path
):
    settings = settings_of(changes)
    model = door(settings, monkeypatch, tmp_path)
    assert sorted(tuple(v.shape) for v in model.trainable_variables) == shapes(settings)
    generator = np.random.default_rng(4)
    for v in model.trainable_variables:
        v.assign(generator.normal(size=v.shape) * 0.5)
    kind, n_samples = kind_of(settings), 2
    x = generator.integers(0, 2, [3, 64]).astype(float)
    if settings.task == "digits_grey":
        x = generator.uniform(size=[3, 64])
    draws = noise.latents(noise.key(0, "latents", 0), n_samples, 3, model.n_units, "float64")
    uniforms = [u.numpy() for u in draws.uniforms]
    sample = models.of_uniforms(uniforms)
    f, log_weight, samples = models.evaluate(
        model, x, sample, n_samples, kind, settings.activation, settings.likelihood
    )
    rollout = model.rollout(tf.constant(x), lambda layer, a: tf.constant(samples[layer]), n_samples)
    np.testing.assert_allclose(rollout.objective, f.reshape(-1), rtol=1e-10)
    weights = rollout.objective if rollout.log_weight is None else rollout.log_weight
    np.testing.assert_allclose(weights, log_weight.reshape(-1), rtol=1e-10)
    # The bound of a model is that of the weights, not of f.
    np.testing.assert_allclose(model.score(x, draws), models.bound(log_weight), rtol=1e-10)


@pytest.mark.parametrize("initializer", ["2017", "glorot"])
def test_initial_weights(initializer):
    settings = HParams(n_hidden=40, n_layer=2, nonlinear=True, initializer=initializer)
    for v in make_model(settings, MEAN, False, (0, 1)).trainable_variables:
        if len(v.shape) == 1:
            assert not np.any(v.numpy())
            continue
        fan_in, fan_out = v.shape
        variance = 2 / fan_in if initializer == "2017" else 2 / (fan_in + fan_out)
        # The truncated normal ends at two standard deviations before truncation.
        limit = 2 * np.sqrt(1.3 * variance) if initializer == "2017" else np.sqrt(3 * variance)
        w = v.numpy()
        assert np.max(np.abs(w)) == pytest.approx(limit, rel=0.03)
        assert np.max(np.abs(w)) <= limit
        assert np.mean(w**2) == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("model", ["SBNNVIL", "CatST"])
def test_initial_weights_are_those_of_the_seed_and_the_trial(model):
    settings = settings_of(f"model={model}")

    def weights(seed, trial):
        settings_of_trial = HParams(**settings.values() | {"trial": trial})
        learner = getattr(rebar, model)(settings_of_trial, MEAN, seed=seed).learner
        return np.concatenate(
            [np.ravel(v) for v in [*learner.model.get_weights(), *learner.estimator.get_weights()]]
        )

    first = weights(0, 1)
    np.testing.assert_array_equal(weights(0, 1), first)
    for other in (weights(1, 1), weights(0, 2), weights(1, 0)):
        assert np.mean(other == first) < 0.6  # biases are zero


def test_an_input_of_another_size_is_refused(tmp_path):
    with pytest.raises(RebarError, match="n_input=65"):
        rebar.train("model=SBNNVIL,task=digits,n_input=65", working_dir=tmp_path)
    with pytest.raises(RebarError, match="n_input=65"):
        rebar.SBNNVIL("n_input=65", MEAN)
