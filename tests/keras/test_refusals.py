"""Bad input to `rebar.keras.Model`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar
from tests.keras import models
from tests.keras.models import IMAGES, PIXELS, compiled


class WithoutObjective(rebar.keras.Model):
    pass


class Summed(models.BinaryVAE):
    def objective(self, sample, x):
        return tf.reduce_sum(super().objective(sample, x))


class Closure(models.BinaryVAE):
    def __init__(self, function):
        super().__init__()
        self.objective = function


COMPILE = {
    r"BinaryVAE: missing; use e\.g\. compile\(optimizer, estimator='DisARM'\)": {"estimator": None},
    "unknown estimator 'DisRM'; did you mean DisARM": {"estimator": "DisRM"},
    "estimator=3: must be a name or an instance": {"estimator": 3},
    "WithoutObjective: has no objective; define objective": {"model": WithoutObjective},
    "^n_samples=0: must be an integer of at least 1": {"n_samples": 0},
    "^eval_samples='2': must be an integer of at least 1": {"eval_samples": "2"},
    "loss: the loss is minus the objective; remove loss": {"loss": "mse"},
}


@pytest.mark.parametrize("message", COMPILE)
def test_compile(message):
    with pytest.raises(rebar.RebarError, match=message):
        compiled(**COMPILE[message])


STEP = {
    r"the objective returned shape \(\): must be one value per row": ({"model": Summed}, ()),
    r"BinaryVAE\.objective\(sample, x\) with data \(x, y\): too many": ({}, (IMAGES,)),
    r"Gated\.objective\(sample, x, y\) with data \(x\): missing": ({"model": models.Gated}, ()),
    "sample_weight and class_weight: unsupported": ({}, (None, np.ones(40))),
    "estimator of site 'c': unknown": ({"estimator": {"c": "NVIL"}}, ()),
    "seed=-1: must be an integer from 0": ({"seed": -1}, ()),
}


@pytest.mark.parametrize("message", STEP)
def test_the_first_step(message):
    """Errors keep their class in a graph."""
    arguments, data = STEP[message]
    with pytest.raises(rebar.RebarError, match=message):
        compiled(**arguments).train_on_batch(IMAGES, *data)


def test_a_functional_model():
    x = keras.Input([PIXELS])
    with pytest.raises(rebar.RebarError, match=r"BinaryVAE\(inputs=.*: unsupported"):
        models.BinaryVAE(inputs=x, outputs=x)


def test_weights_without_targets():
    """Keras drops them before the step."""
    for weights in ({"sample_weight": np.ones(40)}, {"class_weight": {0: 1.0}}):
        with pytest.raises(rebar.RebarError, match="sample_weight and class_weight: unsupported"):
            compiled().fit(IMAGES, **weights)
    with pytest.raises(rebar.RebarError, match="sample_weight and class_weight: unsupported"):
        compiled().evaluate(IMAGES, sample_weight=np.ones(40))


def test_an_objective_that_cannot_be_saved(tmp_path):
    """A class with arguments other than numbers needs get_config."""
    keras.utils.set_random_seed(0)
    model = Closure(lambda sample, x: tf.reduce_sum(sample.bernoulli("b", x), axis=1))
    model.compile("sgd", "DisARM", run_eagerly=True)
    model.train_on_batch(IMAGES)
    with pytest.raises(NotImplementedError, match=r"Object Closure was created(?s:.*)get_config"):
        model.save(tmp_path / "model.keras")


def test_an_estimator_before_compile():
    with pytest.raises(rebar.RebarError, match=r"BinaryVAE: not compiled; call compile\(\)"):
        models.BinaryVAE().estimator  # noqa: B018


def test_the_callback():
    with pytest.raises(rebar.RebarError, match="draws=3: must be an integer of at least 4"):
        rebar.keras.GradientVariance(IMAGES, draws=3)
    other = keras.Sequential([keras.layers.Dense(1)])
    other.compile("sgd", loss="mse")
    with pytest.raises(rebar.RebarError, match="GradientVariance with a Sequential: "):
        other.fit(IMAGES, IMAGES, verbose=0, callbacks=[rebar.keras.GradientVariance(IMAGES)])
