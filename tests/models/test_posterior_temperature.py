"""The posterior of decoupled straight-through, softmax(l / T_f), everywhere."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise
from rebar.errors import RebarError
from rebar.factory import make_model
from rebar.hparams import HParams
from tests.conformance.cases import float64
from tests.conformance.literal import models

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")

MEAN = np.linspace(0.2, 0.7, 6)
X = np.random.default_rng(0).integers(0, 2, [3, 6]).astype(np.float64)
T_F, T_B = 0.6, 1.7


def hparams(temperature, **changes):
    custom = (("forward_temperature", temperature), ("backward_temperature", T_B))
    return HParams(model="CatDecoupledST", custom=custom, **changes)


@pytest.mark.parametrize(
    ("task", "latents", "nonlinear"),
    [
        ("digits", (), False),
        ("digits", ("2x3", "4x2"), False),
        ("digits", ("2x3", "4x2"), True),
        ("sp_digits", ("2x3", "4x2"), True),
        ("sp_digits", ("2x3",), False),
    ],
)
def test_models_divide_the_logits_of_q(task, latents, nonlinear, monkeypatch):
    """Logits, f and the bound are those of a network whose last layer is divided by T_f."""
    models.narrow(monkeypatch)
    changes = {"latents": latents, "task": task, "nonlinear": nonlinear}
    plain, scaled = (
        make_model(hparams(t, **changes), MEAN, task == "sp_digits") for t in (1.0, T_F)
    )
    scaled.set_weights(plain.get_weights())
    last = [t.dense[-1] for t in plain.recognition.transformations] if latents else []
    for dense in last or [plain.encoder[-1]]:
        for v in dense.weights:
            v.assign(v / T_F)
    draws = noise.latents(noise.key(0, "evaluate", 0), 4, len(X), plain.n_units, tf.float64)
    np.testing.assert_allclose(scaled.encode(X), plain.encode(X), rtol=1e-12)
    np.testing.assert_allclose(scaled.score(X, draws), plain.score(X, draws), rtol=1e-12)
    again = type(scaled).from_config(scaled.get_config())
    again.set_weights(scaled.get_weights())
    np.testing.assert_array_equal(again.score(X, draws), scaled.score(X, draws))


W = np.random.default_rng(1).normal(size=[2, 6, 5])


def estimate(estimator, temperature, names=("a", "b")):
    """Gradient of the loss w.r.t. logits of two sites, divided by a temperature."""
    logits = [tf.Variable(np.random.default_rng(i).normal(size=[1, 2, 3])) for i in range(2)]

    def objective(sample, x):
        a = sample.categorical(names[0], logits[0] / temperature)
        b = sample.categorical(names[1], (logits[1] + a) / temperature)
        rows = [tf.reshape(v, [-1, 6]) @ w for v, w in zip((a, b), W, strict=True)]
        return tf.reduce_sum(tf.tanh(rows[0] + rows[1]), axis=1) - sample.log_q + x

    x = tf.zeros([50], tf.float64)
    with tf.GradientTape() as tape:
        loss = rebar.estimate(objective, x, estimator=estimator, seed=0, step=0).loss
    return [loss, *tape.gradient(loss, logits)]


@pytest.mark.parametrize("per_site", [False, True])
def test_sites_of_objectives_divide_their_logits(per_site):
    options = {"forward_temperature": T_F, "backward_temperature": T_B, "dtype": "float64"}
    decoupled = rebar.estimator("DecoupledST", **options)
    plain = rebar.estimator("ST", temperature=T_B / T_F, dtype="float64")
    if per_site:
        decoupled, plain = ({"a": e, "b": e} for e in (decoupled, plain))
    expected = estimate(plain, T_F)
    for value, stated in zip(estimate(decoupled, 1), expected, strict=True):
        np.testing.assert_allclose(value, stated, rtol=1e-9)
    assert abs(float(estimate(plain, 1)[0] - expected[0])) > 1e-3


def test_the_divergence_of_the_keras_layer():
    logits = np.random.default_rng(2).normal(size=[4, 3])
    p = np.exp(logits / T_F)
    p /= p.sum(axis=1, keepdims=True)
    options = {"forward_temperature": T_F}
    layer = rebar.keras.StraightThrough(
        "decoupled_st", kl_weight=0.3, options=options, dtype="float64"
    )
    layer(tf.constant(logits), training=True)
    (loss,) = layer.losses
    np.testing.assert_allclose(loss, 0.3 * np.mean(np.sum(p * np.log(3 * p), axis=1)), rtol=1e-7)


@pytest.mark.usefixtures("own_registry")
def test_what_cannot_divide_is_refused():
    class Custom(keras.layers.Layer):
        def objective(self, sample, x):
            return tf.reduce_sum(sample.categorical("a", tf.zeros([1, 2, 3])), axis=[1, 2])

    rebar.register_model("Own", Custom)
    with pytest.raises(RebarError, match=r"=0\.6: unsupported by network=Own"):
        make_model(hparams(T_F, network="Own"), MEAN, False)
    with pytest.raises(RebarError, match="forward_temperature"):
        HParams.parse("model=CatTrackGradVariances,track=[DecoupledST(forward_temperature=2),ST]")
