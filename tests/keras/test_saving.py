"""Saved, loaded and cloned models of `rebar.keras.Model`."""

import keras
import numpy as np
import pytest

import rebar
from rebar.estimators.reinforce import Reinforce
from tests.keras import models
from tests.keras.models import IMAGES, compiled, fit

# Keras reads files through a NumPy interface that it implements in an old form.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ESTIMATORS = {
    "name": lambda: "DynamicREBAR",
    "instance": lambda: rebar.estimator("RELAX", temperature=0.3, hidden=5),
    "mapping": lambda: {"b": "NVIL"},
}


class WithPrior(models.BinaryVAE):
    def __init__(self, prior=None):
        super().__init__()
        self.prior = prior


def equal(first, second):
    for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_loaded_model_continues_bit_equal(kind, tmp_path):
    model = compiled(ESTIMATORS[kind](), seed=(2, 3), eval_samples=2, run_eagerly=True)
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(IMAGES, verbose=0) == model.evaluate(IMAGES, verbose=0)
    assert len(loaded.evaluate(IMAGES, verbose=0)) == 3  # with the bound
    equal(model, loaded)
    equal(model.estimator, loaded.estimator)
    assert model.estimator.weights
    assert fit(loaded) == fit(model)
    equal(model, loaded)
    equal(model.estimator, loaded.estimator)


def test_options_of_an_instance_are_saved(tmp_path):
    model = compiled(ESTIMATORS["instance"]())
    estimator = keras.models.clone_model(model).estimator
    assert (estimator.initial_temperature, estimator.hidden) == (0.3, 5)


def test_arguments_of_a_class_are_saved(tmp_path):
    """Without get_config, which `keras.Model` makes of defaults alone."""
    model = models.BinaryVAE(2, decay=0.5)
    model.compile("sgd", "DisARM")
    model.create_variables(IMAGES)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for copy in (loaded, keras.models.clone_model(model)):
        assert (copy.units, copy.decay) == (2, 0.5)
    with pytest.raises(NotImplementedError, match=r"non-serializable argument(?s:.*)get_config"):
        WithPrior(np.zeros(3)).get_config()


def test_a_clone_is_a_new_model():
    model = compiled("DisARM", optimizer="sgd", n_samples=2, run_eagerly=True)
    fit(model)
    clone = keras.models.clone_model(model)
    fit(clone, epochs=1)
    clone.set_weights(model.get_weights())
    assert fit(clone, epochs=1)["elbo"] == fit(model, epochs=1)["elbo"]


def test_weights_alone_continue_the_noise(tmp_path):
    model, other = (compiled("NVIL", optimizer="sgd", run_eagerly=True) for _ in range(2))
    fit(model)
    model.save_weights(tmp_path / "model.weights.h5")
    other.train_on_batch(IMAGES)
    other.load_weights(tmp_path / "model.weights.h5")
    equal(model.estimator, other.estimator)
    assert fit(other, epochs=1) == fit(model, epochs=1)


def test_a_model_can_be_saved_before_training(tmp_path):
    model = compiled("NVIL", run_eagerly=True)
    expected = model.evaluate(IMAGES, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(IMAGES, verbose=0) == expected
    assert fit(loaded, epochs=1) == fit(model, epochs=1)


def test_an_interrupted_run_resumes(tmp_path):
    """BackupAndRestore gives the result of a run without an interruption."""

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)

    complete, first, second = (compiled("NVIL", run_eagerly=True) for _ in range(3))
    fit(complete, epochs=3)
    for model, epochs, run in ((first, 2, 2), (second, 3, 1)):
        model.create_variables(IMAGES)
        assert len(fit(model, epochs=epochs, callbacks=[backup()])["elbo"]) == run
    equal(second, complete)
    equal(second.estimator, complete.estimator)


class Unregistered(Reinforce):
    """An estimator of a user."""


def test_an_unregistered_estimator_is_named(tmp_path):
    model = compiled(Unregistered(), run_eagerly=True)
    model.train_on_batch(IMAGES)
    with pytest.raises(rebar.RebarError, match=r"estimator Unregistered: .*rebar\.register"):
        model.save(tmp_path / "model.keras")


def test_a_model_of_call_and_objective(tmp_path):
    model = compiled("LOO", models.Gated, n_samples=2, run_eagerly=True)
    model.fit(IMAGES, np.int32(IMAGES[:, 0]), verbose=0)
    expected = model.predict(IMAGES, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), expected)
