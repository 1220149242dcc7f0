"""Extreme numbers, as they are trained with (float32): estimates stay finite.

Logits are those of q and of the pixels; 1e4 is some thousand nats per image. The gradient of f is
large there, but its squares must fit into a float32.
"""

import numpy as np
import pytest
import tensorflow as tf

from rebar import registry
from rebar.factory import make_model
from rebar.hparams import HParams
from tests.conformance import categories
from tests.conformance.cases import (
    N_INPUT,
    draw,
    images,
    noise_keys,
    registered,
    samples_of,
    tiny_model,
)

NAMES = registry.names("binary")
BATCH = 3


def estimate(estimator, model, x, n_samples):
    x = tf.constant(x, tf.float32)
    return estimator.estimate(model, x, draw(estimator, model, noise_keys(5, 0), n_samples, len(x)))


def assert_finite(estimate):
    for values in tf.nest.flatten(estimate._asdict()):
        assert np.all(np.isfinite(values))
        assert np.all(np.isfinite(np.square(values)))


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
@pytest.mark.parametrize("scale", [1, 30])
@pytest.mark.parametrize("name", NAMES)
def test_temperatures(name, scale, temperature):
    model = tiny_model(2)
    for v in model.trainable_variables:
        v.assign(scale * v)
    estimator = registered(name, model, temperature=temperature)
    for v in estimator.trainable_variables:
        if "temperature" in v.path:
            v.assign(np.log(temperature))
    assert_finite(estimate(estimator, model, images(BATCH), samples_of(name)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pixel", [0, 1])
def test_images_that_are_all_zero_or_all_one(name, pixel):
    """Also as the whole training set: then the mean, whose logit p's last layer starts from."""
    settings = HParams(model=name, n_hidden=2, n_layer=2, n_samples=samples_of(name))
    model = make_model(settings, np.full(N_INPUT, float(pixel)), conditional=False)
    estimator = registered(name, model)
    assert_finite(estimate(estimator, model, np.full([BATCH, N_INPUT], pixel), samples_of(name)))


@pytest.mark.parametrize("name", [n for n in NAMES if not registry.entry(n).tracks])
def test_a_single_image(name):
    """2017's REINFORCE divided by rows - 1."""
    model = tiny_model(1)
    n_samples = samples_of(name)
    assert_finite(estimate(registered(name, model), model, images(1), n_samples))


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
@pytest.mark.parametrize("name", registry.names("categorical"))
def test_categorical(name, temperature):
    model = categories.model()
    for scale in (1, 30):
        for v in model.trainable_variables:
            v.assign(scale * v)
        estimator = categories.estimator(name, model, temperature=temperature)
        for x in (images(BATCH), np.zeros([BATCH, N_INPUT]), np.ones([BATCH, N_INPUT])):
            assert_finite(estimate(estimator, model, x, 2))
