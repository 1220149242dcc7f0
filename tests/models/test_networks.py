"""The networks between stochastic layers: the DisARM paper's shapes, activations, weights."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from rebar import noise
from rebar.core import initializers, samplers
from rebar.errors import RebarError
from rebar.estimators import literal_rebar
from rebar.estimators.rebar import DynamicREBAR
from rebar.factory import make_model
from rebar.hparams import HParams
from rebar.hparams.presets import PRESETS, preset
from rebar.models.conditional import ConditionalSBN, SingleLayerConditional
from rebar.models.networks import Transformation
from rebar.models.sbn import SigmoidBeliefNetwork
from tests.conformance.cases import float64, images, randomize, set_up, tensor

__all__ = ["float64"]

CLASSES = [SigmoidBeliefNetwork, ConditionalSBN, SingleLayerConditional]
MEAN = np.array([0.0, 0.0004, 0.3, 0.5, 0.9997, 1.0])
LEAKY = {"nonlinear": True, "activation": "leaky_relu", "initializer": "glorot"}


def widths(transformation):
    """(784, 200, 200, 200) for a map 784-200-200-200."""
    kernels = [layer.kernel.shape for layer in transformation.dense]
    assert [a[1] for a in kernels[:-1]] == [b[0] for b in kernels[1:]]
    return (kernels[0][0], *(shape[1] for shape in kernels))


PAPER = {
    "disarm_linear": ([(784, 200)], [(200, 784)]),
    "disarm_nonlinear": ([(784, 200, 200, 200)], [(200, 200, 200, 784)]),
    "disarm_linear2": ([(784, 200), (200, 200)], [(200, 200), (200, 784)]),
    "disarm_linear3": ([(784, 200), *[(200, 200)] * 2], [*[(200, 200)] * 2, (200, 784)]),
    "disarm_linear4": ([(784, 200), *[(200, 200)] * 3], [*[(200, 200)] * 3, (200, 784)]),
}
"""Widths of encoder and decoder, in the order in which data walk them."""


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("disarm")])
def test_the_paper_s_shapes(name):
    model = make_model(HParams.parse(preset(name)), np.full(784, 0.3), conditional=False)
    encoder, decoder = PAPER[name]
    assert [widths(t) for t in model.recognition.transformations] == encoder
    assert [widths(t) for t in model.generator.transformations] == decoder
    assert model.prior.logits.shape == (200,)
    layers = [pair for map_ in encoder + decoder for pair in itertools.pairwise(map_)]
    assert model.count_params() == 200 + sum(a * b + b for a, b in layers)
    hidden = [d for t in model.recognition.transformations for d in t.dense[:-1]]
    assert len(hidden) == (2 if name == "disarm_nonlinear" else 0)


@pytest.mark.parametrize(
    ("activation", "function"),
    [("tanh", np.tanh), ("leaky_relu", lambda a: np.where(a > 0, a, 0.3 * a))],
)
@pytest.mark.usefixtures("float64")
def test_f_by_hand(activation, function):
    """Encoder of x - mean, decoder of 2 b - 1, plus the logit of the mean clipped at .001."""
    model = SigmoidBeliefNetwork((3,), MEAN, nonlinear=True, activation=activation)
    randomize(model.trainable_variables, 4, 0.8)
    x = images(5)
    draws = noise.latents(noise.key(1, "analysis"), 1, 5, model.n_units, tf.float64)
    rollout = model.rollout(tensor(x), samplers.hard(draws))
    weights = [v.numpy() for v in model.trainable_variables]
    prior, encoder, decoder = weights[0], weights[1:7], weights[7:]

    def network(h, w):
        h = function(h @ w[0] + w[1])
        h = function(h @ w[2] + w[3])
        return h @ w[4] + w[5]

    def log_prob(b, logits):
        return np.sum(b * logits - np.logaddexp(0, logits), axis=-1)

    logits = network(x - MEAN, encoder)
    np.testing.assert_allclose(rollout.logits[0], logits, rtol=1e-12)
    b = rollout.samples[0].numpy()
    np.testing.assert_array_equal(b, draws.uniforms[0] > 1 / (1 + np.exp(logits)))
    clipped = np.clip(MEAN, 0.001, 0.999)
    pixels = network(2 * b - 1, decoder) + np.log(clipped / (1 - clipped))
    f = log_prob(x, pixels) + log_prob(b, prior) - log_prob(b, logits)
    np.testing.assert_allclose(rollout.objective, f, rtol=1e-12)


def test_the_slope_below_zero_is_three_tenths():
    """Two layers of it, and their derivative: .3 squared for negative inputs, 1 for positive."""
    layer = Transformation(1, 1, n_hidden=1, activation="leaky_relu")
    for v in layer.trainable_variables:
        v.assign(tf.ones(v.shape) if v.path.endswith("kernel") else tf.zeros(v.shape))
    x = tf.constant([[-2.0], [3.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    np.testing.assert_allclose(y, [[-0.18], [3.0]], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(y, x), [[0.09], [1.0]], rtol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("n_layer", "jit"), [(1, True), (2, None)])
def test_second_derivatives_pass_through_leaky_relu(n_layer, jit):
    """DynamicREBAR's gradients, of eta, c and T too, against REBAR written out; compiled too."""
    model = SigmoidBeliefNetwork((2,) * n_layer, np.linspace(0.2, 0.7, 6), **LEAKY)
    randomize(model.trainable_variables, 7, 1.0)
    estimator = set_up(DynamicREBAR(temperature=0.6), model)
    draws = noise.latents(noise.key(3, "analysis"), 2, 4, model.n_units, tf.float64)
    x = tensor(images(4))
    literal = [v for part in literal_rebar.estimate(estimator, model, x, draws) for v in part]
    assert max(np.max(np.abs(v)) for v in literal) > 0.1
    estimate = tf.function(estimator.estimate, autograph=False, jit_compile=jit)(model, x, draws)
    ours = [*estimate.gradients, *estimate.control_gradients]
    for a, b in zip(ours, literal, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


def test_glorot_weights():
    """Uniform up to sqrt(6 / (fan_in + fan_out)); biases and prior 0; a layer's own draws."""
    model = SigmoidBeliefNetwork((200,), np.full(784, 0.3), seed=4, **LEAKY)
    kernels = [v for v in model.trainable_variables if v.path.endswith("kernel")]
    assert len(kernels) == 6
    for kernel in kernels:
        values = kernel.numpy()
        limit = np.sqrt(6 / sum(values.shape))
        assert 0.999 * limit < np.max(np.abs(values)) <= limit
        # The deviation of 40,000 uniforms is known to .3%, their mean to .9% of the limit.
        assert np.std(values) == pytest.approx(limit / np.sqrt(3), rel=0.015)
        assert abs(np.mean(values)) < 0.02 * limit
    square = [kernel.numpy() for kernel in kernels if kernel.shape == (200, 200)]
    assert len({values.tobytes() for values in square}) == len(square) == 4
    assert not any(np.any(v) for v in model.variables if not v.path.endswith("kernel"))
    again = SigmoidBeliefNetwork((200,), np.full(784, 0.3), seed=4, **LEAKY)
    other = SigmoidBeliefNetwork((200,), np.full(784, 0.3), seed=5, **LEAKY)
    np.testing.assert_array_equal(again.trainable_variables[1], kernels[0])
    assert np.all(other.trainable_variables[1] != kernels[0])


# Keras 3 converts its variables in a way that NumPy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("cls", CLASSES)
def test_config_and_files_hold_the_network(cls, tmp_path):
    model = cls((3, 2), np.linspace(0.2, 0.7, 6), seed=9, **LEAKY)
    config = model.get_config()
    assert {name: config[name] for name in LEAKY} == LEAKY
    copy = cls.from_config(config)
    assert copy.get_config() == config
    for a, b in zip(model.variables, copy.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    randomize(model.trainable_variables, 5, 0.8)
    x = images(4).astype(np.float32)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    loaded_networks = [loaded.recognition, loaded.generator]
    assert all(n.get_config()["activation"] == "leaky_relu" for n in loaded_networks)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_config_from_before_these_options_means_2017(cls):
    model = cls((3,), np.linspace(0.2, 0.7, 6), nonlinear=True, seed=9)
    old = model.get_config()
    del old["activation"], old["initializer"]
    x = images(4).astype(np.float32)
    np.testing.assert_array_equal(cls.from_config(old)(x), model(x))
    assert model.get_config()["activation"] == "tanh"
    assert model.get_config()["initializer"] == "2017"


def test_the_conditional_prior_is_such_a_network_too():
    model = ConditionalSBN((3, 2), np.linspace(0.2, 0.7, 6), **LEAKY)
    config = model.prior.get_config()
    assert (config["activation"], config["initializer"]) == ("leaky_relu", "glorot")
    assert widths(model.prior) == (3, 2, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "relu"}, "activation='relu': choose from tanh, leaky_relu"),
        ({"initializer": "he"}, "initializer='he': choose from 2017, glorot"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(RebarError, match=message):
        SigmoidBeliefNetwork((3,), MEAN, **arguments)


@pytest.mark.parametrize("name", ["2017", "glorot"])
def test_initializers_are_serializable(name):
    initializer = initializers.by_name(name, 3)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(initializer))
    assert type(copy) is type(initializer)
    np.testing.assert_array_equal(copy((4, 5)), initializer((4, 5)))
