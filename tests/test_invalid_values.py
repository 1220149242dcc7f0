"""Invalid values never become plausible numbers: in measurements, classes, layers and settings."""

import os

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise
from rebar.data.datasets import Dataset
from rebar.errors import RebarError
from rebar.estimators.base import Estimator, checked_estimate
from rebar.experiment import Settings
from rebar.hparams.hparams import run_folder
from rebar.keras import StraightThrough

X = np.random.default_rng(0).integers(0, 2, (6, 8)).astype(np.float32)
LOGITS = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def sbn():
    return rebar.SBNDisARM("n_hidden=3", X.mean(axis=0))


INVALID_IMAGES = {
    "must be in .0, 1.; divide by 255": X * 255,
    "must be in .0, 1.; rescale": 2 * X - 1,
    "must be in .0, 1.; remove": X * np.nan,
    "x is grayscale: must be binary for": X / 3,
}


@pytest.mark.parametrize("message", INVALID_IMAGES)
def test_images_of_a_measurement_and_a_step(message, sbn):
    x = INVALID_IMAGES[message]
    with pytest.raises(RebarError, match=message):
        rebar.estimator_variance(sbn.learner.model, sbn.learner.estimator, x, 8)
    with pytest.raises(RebarError, match=message):
        sbn.partial_fit(x)


def test_samples_of_a_step_are_those_of_the_hparams():
    sbn = rebar.SBNVIMCO("n_hidden=3,n_samples=4", X.mean(axis=0))
    ours, theirs = sbn.partial_grad(X)[0], sbn.partial_grad(X, 4)[0]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


class Short(Estimator):
    """An objective that lacks examples."""

    def estimate(self, model, x, noise):
        gradients = [tf.zeros(v.shape) for v in model.trainable_variables]
        return rebar.Estimate(gradients, [], tf.zeros([3]), {})


def test_an_objective_of_another_length(sbn):
    model = sbn.learner.model
    draws = noise.latents(noise.key(0, "latents"), 1, len(X), model.n_units)
    with pytest.raises(RebarError, match=r"objective of shape \[3\] for 6 examples"):
        checked_estimate(Short(), model, tf.constant(X), draws)


@pytest.mark.parametrize("option", ["muprop_relaxation", "differentiable"])
def test_switches_of_methods_are_booleans(option):
    with pytest.raises(RebarError, match=f"{option}='false': must be True or False"):
        rebar.estimate_gradient(
            "rebar", lambda b: tf.reduce_sum(b, 1), LOGITS, seed=0, step=0, **{option: "false"}
        )


def test_a_method_of_the_other_family_names_it():
    for method, family, other in (
        ("reinmax", "bernoulli", "categorical"),
        ("disarm", "categorical", "bernoulli"),
    ):
        with pytest.raises(RebarError, match=f"use family='{other}'"):
            rebar.estimate_gradient(method, len, LOGITS, family=family, seed=0, step=0)


def test_models_take_images_as_they_are_loaded(sbn):
    for images in (X.astype(np.uint8), X.astype(bool)):
        np.testing.assert_array_equal(sbn.learner.model(images), sbn.learner.model(X))


def test_a_step_must_fit():
    with pytest.raises(RebarError, match=r"must be below 2\*\*31"):
        rebar.straight_through.st(LOGITS, seed=0, step=2**32)


@pytest.mark.parametrize("training", [False, True])
def test_the_layer_refuses_invalid_logits(training):
    layer = StraightThrough("st", kl_weight=1.0)
    for logits in (np.full([1, 2, 3], np.nan), np.zeros(3), np.zeros([4, 1])):
        with pytest.raises(RebarError, match="logits"):
            layer(logits, training=training)
    compiled = tf.function(lambda x: layer(x, training=training))
    assert np.all(np.isnan(compiled(tf.fill([1, 2, 3], np.float32(np.nan)))))


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, None, "0.1", [0.1, 0.2]])
def test_the_weight_of_the_divergence(value):
    with pytest.raises(RebarError, match="kl_weight="):
        StraightThrough("st", kl_weight=value)


@pytest.mark.parametrize(
    "changes",
    [
        *({"keep_epochs": v} for v in (("1",), [0], (1.5,), 1, "1,5", None)),
        *({"save_seconds": v} for v in (None, "x", float("nan"), -1)),
        {"draw": "false"},
        {"threads": 10**6},
    ],
)
def test_settings_are_refused_before_anything_is_written(changes):
    (name,) = changes
    with pytest.raises(RebarError, match=f"{name}="):
        Settings(**changes)


def test_data_sets():
    valid = {"name": "own", "train": X, "valid": X, "test": X, "mean": X.mean(0)}
    valid |= {"image_shape": (2, 4), "description": "own"}
    Dataset(**valid)
    for changes in ({"image_shape": (2.5, 3.2)}, {"image_shape": (-2, -4)}, {"dynamic": "false"}):
        (name,) = changes
        with pytest.raises(RebarError, match=f"{name}="):
            Dataset(**valid | changes)


def test_an_unknown_home_is_a_folder_name():
    hparams = rebar.HParams.parse("model=SBNDisARM")
    assert os.fspath(run_folder("~nobody-of-this-name/x", hparams, 0)).startswith("~nobody")
