"""Everything public survives Keras' and Python's ways of saving, copying and exporting."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise, registry
from rebar.factory import make_model
from rebar.functional.straight_through import LAYERS
from rebar.hparams import HParams
from rebar.keras import StraightThrough

# Keras reads files through a NumPy interface that it implements in an old form.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

IMAGES = np.random.default_rng(0).integers(0, 2, (6, 16)).astype(np.float32)
LOGITS = np.random.default_rng(1).normal(size=(6, 3, 4)).astype(np.float32)
MODELS = {
    "sbn": ("model=SBNDisARM,n_hidden=3,n_layer=2", False),
    "nonlinear": ("model=SBNDisARM,n_hidden=3,nonlinear=true,activation=leaky_relu", False),
    "conditional": ("model=SBNDisARM,n_hidden=3,n_layer=2,task=sp", True),
    "conditional 2017": ("model=SBNDisARM,n_hidden=3,task=sp,conditional=2017", True),
    "categorical": ("model=CatReinMax,n_latents=2,n_categories=3,prior=learned", False),
}


def model_of(name):
    hparams, conditional = MODELS[name]
    return make_model(HParams.parse(hparams), np.mean(IMAGES, axis=0), conditional)


def autoencoder():
    """The layer within a model, with an option and the KL divergence."""
    return keras.Sequential(
        [
            keras.layers.Input([16]),
            keras.layers.Dense(12),
            keras.layers.Reshape([3, 4]),
            StraightThrough("gumbel_rao", (0, 1), 1.0, {"temperature": 0.7, "draws": 2}),
            keras.layers.Flatten(),
            keras.layers.Dense(16),
        ]
    )


def by_config(model, _):
    """A new object from the configuration; weights are not part of it."""
    data = keras.saving.serialize_keras_object(model)
    restored = keras.saving.deserialize_keras_object(data)
    restored.set_weights(model.get_weights())
    return restored


def by_clone(model, _):
    restored = keras.models.clone_model(model)
    restored.set_weights(model.get_weights())
    return restored


def by_file(suffix):
    def save_and_load(model, folder):
        model.save(folder / f"model{suffix}")
        return keras.models.load_model(folder / f"model{suffix}", compile=False)

    return save_and_load


def by_export(model, folder):
    model.export(folder / "exported", verbose=False)
    loaded = tf.saved_model.load(folder / "exported")
    return lambda images: loaded.serve(images)


WAYS = {
    "config": by_config,
    "clone": by_clone,
    ".keras": by_file(".keras"),
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "copy": lambda model, _: copy.copy(model),
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "export": by_export,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*MODELS, "layer in a model"])
def test_models(name, way, tmp_path):
    model = autoencoder() if name == "layer in a model" else model_of(name)
    expected = model(IMAGES)
    np.testing.assert_allclose(WAYS[way](model, tmp_path)(IMAGES), expected, rtol=1e-6)


def test_a_loaded_layer_continues_its_noise(tmp_path):
    """The fourth call of a loaded layer is the fourth call of the saved one."""
    model = autoencoder()
    for _ in range(3):
        model(IMAGES, training=True)
    restored = by_file(".keras")(model, tmp_path)
    np.testing.assert_array_equal(restored(IMAGES, training=True), model(IMAGES, training=True))


@pytest.mark.parametrize("method", LAYERS)
def test_layers(method, tmp_path):
    layer = StraightThrough(method, seed=3)
    layer(LOGITS, training=True)
    expected = LAYERS[method](LOGITS, seed=3, step=1).z
    for way in ("pickle", "copy", "deepcopy"):
        restored = WAYS[way](layer, tmp_path)
        np.testing.assert_array_equal(restored(LOGITS, training=True), expected)


def test_the_layer_is_deterministic_in_inference():
    layer = StraightThrough("reinmax")
    first, second = layer(LOGITS), layer(LOGITS)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.argmax(first, -1), np.argmax(LOGITS, -1))
    assert int(layer.calls) == 0


def test_the_layer_has_the_gradient_of_its_method():
    layer, logits = StraightThrough("reinmax", seed=1, options={"temperature": 0.7}), LOGITS

    def gradient(sample):
        variable = tf.Variable(logits)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(sample(variable) * LOGITS[::-1])
        return tape.gradient(loss, variable)

    found = gradient(lambda x: layer(x, training=True))
    expected = gradient(lambda x: rebar.straight_through.reinmax(x, 0.7, seed=1, step=0).z)
    np.testing.assert_allclose(found, expected)


def test_the_layer_adds_the_divergence():
    layer = StraightThrough("st", kl_weight=2.0)
    layer(LOGITS)
    q = tf.nn.softmax(LOGITS).numpy()
    expected = 2 * np.mean(np.sum(q * np.log(q * 4), axis=(1, 2)))
    np.testing.assert_allclose(layer.losses[0], expected, rtol=1e-5)


def test_mixed_precision():
    layer = StraightThrough("reinmax", dtype="mixed_float16")
    z = layer(tf.constant(LOGITS, tf.float16), training=True)
    assert z.dtype == tf.float16
    np.testing.assert_array_equal(z, rebar.straight_through.reinmax(LOGITS, seed=0, step=0).z)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "ReinMx"}, "unknown method 'ReinMx'; did you mean reinmax"),
        ({"options": {"temperature": 0}}, "temperature=0: "),
        ({"options": {"draws": 2}}, "draws: unknown option of reinmax"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(rebar.RebarError, match=message):
        StraightThrough(**arguments)


@pytest.mark.parametrize("way", ["config", "pickle", "copy", "deepcopy"])
def test_free_form(way, tmp_path):
    network = rebar.FreeForm(3, n_hidden=4, seed=2)
    network.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in network.weights])
    z = np.float32([[0.5, -1.0, 2.0]])
    np.testing.assert_array_equal(WAYS[way](network, tmp_path)(z), network(z))


VALUES = {
    "HParams": lambda: HParams.parse("model=SBNTrackGradVariances,track=[NVIL,DisARM]"),
    "Noise": lambda: noise.latents(noise.key(0, "latents"), 2, 3, [4, 5]),
    "GradientEstimate": lambda: rebar.estimate_gradient(
        "disarm", lambda b: tf.reduce_sum(b, 1), LOGITS[0], seed=0, step=0
    ),
    "Settings": lambda: rebar.hparams.Settings(epochs=3),
    "RebarError": lambda: rebar.RebarError("message"),
    "registry entry": lambda: registry.entry("SBNDisARM"),
}


@pytest.mark.parametrize("way", ["pickle", "copy", "deepcopy"])
@pytest.mark.parametrize("name", VALUES)
def test_values(name, way):
    value = VALUES[name]()
    restored = WAYS[way](value, None)
    assert type(restored) is type(value)
    if isinstance(value, Exception):
        assert restored.args == value.args
        return
    for ours, theirs in zip(tf.nest.flatten(restored), tf.nest.flatten(value), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("way", ["pickle", "copy", "deepcopy"])
def test_estimators_refuse_to_be_copied(way):
    """Rather than lose silently what they have learned."""
    estimator = registry.make_estimator("SBNRelax", HParams.parse("model=SBNRelax"))
    with pytest.raises(rebar.RebarError, match=r"RELAX: .*setup"):
        WAYS[way](estimator, None)


def test_learned_weights_of_an_estimator_can_be_copied():
    model, hparams = model_of("sbn"), HParams.parse("model=SBNRelax,n_hidden=3,n_layer=2")
    first, second = (registry.make_estimator("SBNRelax", hparams) for _ in range(2))
    first.setup(model, 1)
    second.setup(model, 2)
    second.set_weights(first.get_weights())
    for ours, theirs in zip(second.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
