"""Training and evaluation of `rebar.keras.Model`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar
from tests.keras import models
from tests.keras.models import IMAGES, compiled, fit

HALF = IMAGES[:20]


def updates(model, data=HALF):
    """Changes of the trainable variables and of what the estimator has learned, in one step."""

    def values():
        variables = [*model.trainable_variables, *model.estimator.trainable_variables]
        return [v.numpy() for v in variables]

    before = values()
    model.train_on_batch(data)
    return [b - a for b, a in zip(before, values(), strict=True)]


def gradients(model, step):
    """The same at rate 1, from `rebar.estimate`."""
    arguments = {"estimator": model.estimator, "n_samples": 2, "seed": 3, "step": step}
    with tf.GradientTape(persistent=True) as tape:
        estimate = rebar.estimate(model.objective, HALF, **arguments)
        loss = estimate.loss + model.decay * tf.reduce_sum(tf.square(model.encoder.kernel))
    learned = model.estimator.trainable_variables
    return [
        *tape.gradient(loss, model.trainable_variables),
        *(tape.gradient(estimate.control_loss, learned) if learned else []),
    ]


@pytest.mark.parametrize("estimator", ["DisARM", "DynamicREBAR"])
def test_a_step_follows_the_gradient_of_estimate(estimator):
    """Each step has other noise; losses of layers are included."""
    sgd = [keras.optimizers.SGD(1.0), keras.optimizers.SGD(1.0)]
    options = {"n_samples": 2, "seed": 3, "decay": 0.5, "run_eagerly": True}
    model = compiled(estimator, optimizer=sgd[0], control_optimizer=sgd[1], **options)
    model.train_on_batch(HALF)  # creates the variables
    for step in (1, 2):
        expected = gradients(model, step)
        for found, gradient in zip(updates(model), expected, strict=True):
            np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def histories():
    """Mode -> history of DynamicREBAR, whose update depends on everything."""
    modes = {"graph": {}, "eager": {"run_eagerly": True}, "jit": {"jit_compile": True}}
    return {
        name: fit(compiled("DynamicREBAR", **mode), epochs=5, validation_data=(IMAGES,))
        for name, mode in modes.items()
    }


@pytest.mark.parametrize("mode", ["eager", "jit"])
def test_modes_agree(histories, mode):
    assert list(histories[mode]) == list(histories["graph"])
    for name, values in histories["graph"].items():
        np.testing.assert_allclose(histories[mode][name], values, rtol=1e-4, err_msg=name)


def test_training_maximizes_the_elbo(histories):
    history = histories["graph"]
    assert set(history) == {"loss", "elbo", "temperature", "val_loss", "val_elbo"}
    assert history["val_elbo"][-1] > history["val_elbo"][0] + 0.05
    np.testing.assert_allclose(history["loss"], -np.array(history["elbo"]), rtol=1e-5)
    assert np.all(np.diff(history["temperature"]) != 0)
    assert np.all(np.array(history["temperature"]) > 0)


def test_a_run_depends_on_the_seed_alone(histories):
    """Validation has no effect, nor have other models."""
    again = compiled("DynamicREBAR", run_eagerly=True)
    assert fit(again, epochs=2)["elbo"] == histories["eager"]["elbo"][:2]
    other = compiled("DynamicREBAR", seed=1, run_eagerly=True)
    assert fit(other, epochs=1)["elbo"] != histories["eager"]["elbo"][:1]


def test_evaluation_is_that_of_the_model():
    """The bound of many samples is the log likelihood."""
    model = compiled("LOO", n_samples=2, eval_samples=2000, run_eagerly=True)
    fit(model)
    result = model.evaluate(IMAGES, batch_size=40, verbose=0, return_dict=True)
    assert result == model.evaluate(IMAGES, batch_size=40, verbose=0, return_dict=True)
    twice = model.evaluate(np.tile(IMAGES, [2, 1]), batch_size=40, verbose=0, return_dict=True)
    assert 0 < abs(twice["elbo"] - result["elbo"]) < 0.01  # other samples in the second batch
    elbo, likelihood = models.exact(model)
    assert result["elbo"] == pytest.approx(elbo, abs=0.01)
    assert result["bound"] == pytest.approx(likelihood, abs=0.01)
    assert likelihood - elbo > 0.05
    assert result["loss"] == pytest.approx(-result["elbo"])


def test_training_with_vimco_reports_its_bound():
    history = fit(compiled("VIMCO", n_samples=3, run_eagerly=True), epochs=1)
    assert set(history) == {"loss", "bound"}


def test_the_learning_rate_of_control_variates():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.02, 10, 0.5)
    for rate in (0.02, schedule):
        model = compiled("RELAX", optimizer=keras.optimizers.Adam(rate))
        settings = model.get_compile_config()["control_optimizer"]
        assert settings["config"]["learning_rate"] == pytest.approx(0.2)


def test_targets_and_metrics():
    labels = np.int32(IMAGES[:, 0])
    model = compiled("LOO", models.Gated, n_samples=2, metrics=["accuracy"])
    options = {"batch_size": 20, "verbose": 0}
    history = model.fit(IMAGES, labels, epochs=30, **options).history
    assert set(history) == {"loss", "elbo", "accuracy"}
    assert history["accuracy"][-1] > 0.9
    predicted = np.argmax(model.predict(IMAGES, verbose=0), axis=1)
    result = model.evaluate(IMAGES, labels, return_dict=True, **options)
    assert result["accuracy"] == pytest.approx(np.mean(predicted == labels))


def test_mixed_precision():
    """Half precision in the encoder, and a scaled loss."""
    sgd = keras.optimizers.SGD(1.0)
    half = compiled(optimizer=sgd, dtype="mixed_float16", run_eagerly=True)
    half.encoder.dtype_policy = keras.DTypePolicy("mixed_float16")
    assert isinstance(half.optimizer, keras.optimizers.LossScaleOptimizer)
    full = compiled(optimizer=keras.optimizers.SGD(1.0), run_eagerly=True)
    for found, expected in zip(*map(updates_after_building, (half, full)), strict=True):
        assert np.linalg.norm(expected) > 0.01
        np.testing.assert_allclose(found, expected, atol=0.02)


def updates_after_building(model):
    model.encoder.build([None, models.PIXELS])
    model.decoder.build([None, models.UNITS])
    return updates(model)


def test_the_logged_variance_is_that_of_the_gradient():
    measured = compiled(seed=4, run_eagerly=True)
    callback = rebar.keras.GradientVariance(HALF, draws=400)
    history = fit(measured, epochs=1, callbacks=[callback])
    plain = compiled(seed=4, run_eagerly=True)
    assert fit(plain, epochs=1)["elbo"] == history["elbo"]

    @tf.function
    def gradient(step):
        with tf.GradientTape() as tape:
            estimate = rebar.estimate(plain.objective, HALF, estimator="DisARM", seed=5, step=step)
        parts = tape.gradient(estimate.loss, plain.trainable_variables)
        return tf.concat([tf.reshape(g, [-1]) for g in parts], axis=0)

    draws = np.stack([gradient(tf.constant(step)) for step in range(400)])
    expected = np.sum(np.var(draws, axis=0, ddof=1))
    assert history["gradient_variance"] == pytest.approx([expected], rel=0.25)
