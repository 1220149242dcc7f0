"""Tiny problems for every registered estimator: models, data and weights that are not special."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from rebar import registry
from rebar.core import gradients
from rebar.hparams import HParams
from rebar.testing.problems import (
    FAMILIES,
    N_HIDDEN,
    N_INPUT,
    Problem,
    draw,
    dtype_policy,
    flat,
    images,
    noise_keys,
    randomize,
)

__all__ = ["FAMILIES", "N_INPUT", "draw", "flat", "images", "noise_keys"]

CONDITIONAL = {"unconditional": "auto", "multilayer": "multilayer", "2017": "2017"}
"""Family -> hparam `conditional`."""


@pytest.fixture
def float64():
    """Keras' dtype policy is float64 while the test runs."""
    with dtype_policy("float64"):
        yield


def samples_of(*names: str, least: int = 1) -> int:
    """The smallest n_samples, `least` or more, that estimators take together.

    Args:
      *names: model names or labels, of registered estimators.
      least: wanted at least.
    """
    labels = registry.labels("binary")
    entries = [registry.entry(labels.get(name, name)) for name in names]
    return next(
        n for n in itertools.count(least) if all(entry.n_samples(n) == n for entry in entries)
    )


def hparams(name: str, n_layer: int, family: str = "unconditional", **changes) -> HParams:
    """Hyperparameters of a tiny case, with as few samples as the estimators in it take."""
    values = {"n_layer": n_layer, "n_hidden": N_HIDDEN, "conditional": CONDITIONAL[family]}
    values["n_samples"] = samples_of(name, *changes.get("track", ()))
    return HParams(model=name, **{**values, **changes})


def tiny_model(n_layer: int, family: str = "unconditional", nonlinear=False):
    """A model with random weights, in the dtype of Keras' policy."""
    return Problem(family, n_layer, nonlinear).model()


def set_up(estimator, model, seed=2):
    """The estimator with random control variates: scales are not 1, baselines not 0."""
    estimator.setup(model, seed)
    randomize(estimator.trainable_variables, seed, 0.3)
    return estimator


def registered(name: str, model, **changes):
    """The registered estimator, set up for the model with random control variates."""
    settings = hparams(name, len(model.n_units), **changes)
    return set_up(registry.make_estimator(name, settings), model)


def follower(name, model, n_samples, **settings):
    """The registered estimator for n_samples of noise, with random control variates."""
    return registered(name, model, n_samples=n_samples, **settings)


def assert_control_descends_the_mean_square(estimator, model, x, noise) -> None:
    """Control gradients are those of mean g^2, by central differences along random directions."""

    @tf.function(autograph=False)
    def mean_square():
        return gradients.mean_square(estimator.estimate(model, x, noise).gradients)

    control = estimator.estimate(model, x, noise).control_gradients
    step = 1e-5
    for v, g in zip(estimator.trainable_variables, control, strict=True):
        start = v.numpy()
        direction = np.random.default_rng(0).normal(size=v.shape)
        values = []
        for sign in (1, -1):
            v.assign(start + sign * step * direction)
            values.append(float(mean_square()))
        v.assign(start)
        expected = (values[0] - values[1]) / (2 * step)
        assert np.sum(g * direction) == pytest.approx(expected, rel=1e-5, abs=1e-9), v.path
        assert expected != 0, v.path


def tensor(x, dtype=tf.float64) -> tf.Tensor:
    """A constant of a type."""
    return tf.constant(x, dtype)
