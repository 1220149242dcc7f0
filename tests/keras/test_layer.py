"""Annealing and inference of `rebar.keras.StraightThrough`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.keras import StraightThrough

# Keras reads files through a NumPy interface that it implements in an old form.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LOGITS = np.random.default_rng(1).normal(size=(6, 3, 4)).astype(np.float32)
SCHEDULE = keras.optimizers.schedules.ExponentialDecay(2.0, decay_steps=1, decay_rate=0.5)


def variable(value=2.0):
    return keras.Variable(value, trainable=False, dtype="float32")


def gradient(sample):
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(sample(logits) * LOGITS[::-1])
    return tape.gradient(loss, logits).numpy()


def expected(step, temperature):
    return gradient(
        lambda logits: rebar.straight_through.reinmax(logits, temperature, seed=0, step=step).z
    )


def train(layer):
    return gradient(lambda logits: layer(logits, training=True))


def test_a_schedule_follows_the_calls():
    layer = StraightThrough("reinmax", options={"temperature": SCHEDULE})
    for step in range(3):
        np.testing.assert_allclose(train(layer), expected(step, 2.0 * 0.5**step), rtol=1e-5)
        layer(LOGITS)  # inference has no effect


@pytest.mark.parametrize("make", [variable, lambda: tf.Variable(2.0)])
def test_a_variable_can_be_changed(make):
    temperature = make()
    layer = StraightThrough("reinmax", options={"temperature": temperature})
    np.testing.assert_allclose(train(layer), expected(0, 2.0), rtol=1e-5)
    temperature.assign(0.5)
    np.testing.assert_allclose(train(layer), expected(1, 0.5), rtol=1e-5)
    assert not layer.trainable_variables


def test_the_weight_of_the_divergence_is_annealed():
    weight = variable(0.0)
    layers = [StraightThrough("st", kl_weight=value) for value in (1.0, SCHEDULE, weight)]
    q = tf.nn.softmax(LOGITS).numpy()
    divergence = np.mean(np.sum(q * np.log(q * 4), axis=(1, 2)))
    for step, factors in enumerate(([1, 2, 0], [1, 1, 3])):
        for layer, factor in zip(layers, factors, strict=True):
            layer(LOGITS, training=True)
            np.testing.assert_allclose(layer.losses, [factor * divergence], 1e-5, err_msg=step)
        weight.assign(3.0)


def model():
    layers = [
        StraightThrough("st", (0, 1), SCHEDULE, {"temperature": variable()}, inference="sample"),
        StraightThrough("reinmax", (0, 2), variable(0.5), {"temperature": SCHEDULE}),
    ]
    return keras.Sequential([keras.layers.Input([3, 4]), *layers])


def test_a_loaded_model_continues(tmp_path):
    first = model()
    first.layers[0].options["temperature"].assign(0.25)
    first.layers[1].kl_weight.assign(0.75)
    for training in (True, True, False):
        first(LOGITS, training=training)
    first.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(LOGITS), first(LOGITS))
    for layer in loaded.layers:
        assert type(layer.options["temperature"]) in (keras.Variable, type(SCHEDULE))
    for _ in range(2):
        np.testing.assert_array_equal(train(loaded), train(first))
        np.testing.assert_array_equal(loaded.losses, first.losses)
    loaded.layers[0].options["temperature"].assign(1.0)
    assert np.any(train(loaded) != train(first))
    exported = tmp_path / "exported"
    loaded.export(exported, verbose=False)
    assert tf.saved_model.load(exported).serve(LOGITS).shape == LOGITS.shape


def test_inference_can_sample():
    """Evaluation has separate noise, so that it does not change training."""
    layer, other = StraightThrough("st", inference="sample"), StraightThrough("st")
    samples = np.stack([layer(np.zeros([5000, 2], np.float32))[:, 0] for _ in range(3)])
    assert np.all(np.abs(samples.mean(axis=1) - 0.5) < 0.04)
    agreement = np.mean(samples[0] == samples[1])
    assert abs(agreement - 0.5) < 0.04
    np.testing.assert_array_equal(layer(LOGITS, training=True), other(LOGITS, training=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inference": "mean"}, "inference='mean': choose from 'mode', 'sample'"),
        ({"options": {"temperature": keras.Variable(1.0)}}, "temperature: a trainable variable"),
        ({"options": {"temperature": variable(0.0)}}, "temperature=0: must be above 0"),
        ({"kl_weight": "1"}, "kl_weight='1': must be a finite number"),
        ({"options": 0.5}, "options=0.5: must be a dictionary, e.g. {'temperature': 0.5}"),
        ({"temperature": 0.5}, "temperature: an option of reinmax; pass options={'temperature'"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(rebar.RebarError, match=message):
        StraightThrough(**arguments)
