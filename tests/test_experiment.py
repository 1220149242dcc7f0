"""train and load_model: a run from Python, and the trained model from its folder alone."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.cli import train as train_command
from rebar.errors import RebarError
from rebar.factory import make_model
from rebar.hparams import HParams
from rebar.runs import checkpoint
from tests.digits_run import train


@pytest.mark.parametrize("task", ["digits", "sp_digits"])
def test_a_trained_model_comes_back_as_it_was(tmp_path, task):
    learner, data, folder = train(tmp_path, task, steps=3)
    trained = rebar.load_model(folder)
    assert trained.step == 3
    assert trained.hparams.task == task
    fresh = make_model(trained.hparams, data.mean, task == "sp_digits")
    changed = 0
    for before, after, initial in zip(
        learner.model.variables, trained.model.variables, fresh.variables, strict=True
    ):
        np.testing.assert_array_equal(before, after)
        changed += not np.array_equal(after, initial)
    assert changed == len(fresh.variables)
    x = data.test[:5].astype(np.float32)
    np.testing.assert_array_equal(learner.model(x), trained.model(x))


@pytest.fixture(scope="module")
def one_step(tmp_path_factory):
    """The folder of a run of one step."""
    return train(tmp_path_factory.mktemp("one_step"), "digits", steps=1)[2]


@pytest.fixture
def folder(one_step, tmp_path):
    """A copy of the folder of a run of one step."""
    return shutil.copytree(one_step, tmp_path / one_step.name)


def test_the_folder_is_enough(tmp_path, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (checkpoint_file,) = folder.glob("checkpoint-*.npz")
    shutil.copy(checkpoint_file, moved)
    assert rebar.load_model(str(moved)).model.n_units == (4, 4)
    rebar.load_model(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_run_of_before_a_hyperparameter_was_added(tmp_path, folder):
    found = checkpoint.latest(folder)
    hparams = dict(found.metadata["hparams"])
    assert hparams.pop("multi_sample") is False
    metadata = {**found.metadata, "hparams": hparams}
    variables = {name: tf.constant(value) for name, value in found.variables.items()}
    checkpoint.save(tmp_path / "old", 1, variables, found.extra, metadata)
    assert rebar.load_model(tmp_path / "old").hparams == rebar.load_model(folder).hparams


def test_a_damaged_newest_checkpoint_is_told_of_once(folder):
    (folder / "checkpoint-2.npz").write_bytes(b"not an archive")
    with pytest.warns(RuntimeWarning) as caught:
        trained = rebar.load_model(folder)
    assert trained.step == 1
    assert len(caught) == 1
    assert "checkpoint-2.npz" in str(caught[0].message)


def test_what_is_refused(tmp_path):
    with pytest.raises(RebarError, match=r"no checkpoint in .*nowhere.*prints after 'run:'"):
        rebar.load_model(tmp_path / "nowhere")
    unknown = HParams().to_dict() | {"model": "Mine"}
    checkpoint.save(tmp_path / "mine", 1, {}, {"input_mean": np.zeros(4)}, {"hparams": unknown})
    with pytest.raises(RebarError, match=r"unknown model 'Mine'.*--plugins"):
        rebar.load_model(tmp_path / "mine")
    other = HParams().to_dict()
    checkpoint.save(tmp_path / "other", 1, {}, {"input_mean": np.zeros(4)}, {"hparams": other})
    with pytest.raises(RebarError, match=r"does not fit the variables of this program"):
        rebar.load_model(tmp_path / "other")


@pytest.fixture
def fit(tmp_path):
    """rebar.train for an epoch of the digits with four units, below tmp_path."""

    def fit(*hparams, **settings):
        folders = {"working_dir": tmp_path / "runs", "data_dir": tmp_path / "data"}
        small = {"task": "digits", "n_hidden": 4, "epochs": 1, "jit": "off", "eval_freq": 1}
        return rebar.train(*hparams, **{**folders, **small, "eval_samples": 2, **settings})

    return fit


def test_train_returns_history_model_estimator_and_folder(fit):
    run = fit(model="SBNDisARM", epochs=2)
    assert run.step == 110
    assert run.signal is None
    assert list(run.history["step"]) == [55, 110]
    assert np.all(np.isfinite(run.history[["elbo", "valid", "test"]]))
    loaded = rebar.load_model(run.folder)
    assert type(loaded.estimator) is type(run.estimator)
    assert loaded.history.equals(run.history)
    for trained, restored in zip(run.model.variables, loaded.model.variables, strict=True):
        np.testing.assert_array_equal(trained, restored)


def test_the_same_call_resumes_and_equals_the_command(fit, tmp_path):
    """Keywords, a string and flags name one run; an epoch and another one are two epochs."""
    whole = fit({"model": "SBNNVIL"}, epochs=2, working_dir=tmp_path / "whole")
    first = fit(model="SBNNVIL")
    assert first.folder.name == whole.folder.name
    flags = [f"--working_dir={tmp_path / 'runs'}", f"--data_dir={tmp_path / 'data'}", "--jit=off"]
    hparams = "--hparams=model=SBNNVIL,task=digits,n_hidden=4"
    assert train_command.main(["", hparams, "--epochs=2", "--eval_samples=2", *flags]) == 0
    resumed = rebar.load_model(first.folder)
    assert resumed.step == whole.step == 110
    for one, other in zip(whole.model.variables, resumed.model.variables, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("model", ["CatST", "SBNTrackGradVariances", "Custom"])
def test_train_takes_every_kind_of_model(fit, model, own_registry):
    rebar.register("Custom", "rebar.estimators.nvil:NVIL")
    hidden = {} if model != "CatST" else {"n_hidden": 200, "n_latents": 2}
    run = fit(model=model, training_steps=2, **hidden)
    assert run.step == 2
    assert run.hparams.model == model


def test_layers_of_units_and_categories(fit, tmp_path):
    extras = {"draw": True, "variance_freq": 1, "variance_draws": 20}
    run = fit(model="SBNNVIL", n_hidden=200, latents=[5, "3x2"], **extras)
    loaded = rebar.load_model(run.folder)
    assert loaded.model.latent_shapes == ((5,), (2, 3))
    for trained, restored in zip(run.model.variables, loaded.model.variables, strict=True):
        np.testing.assert_array_equal(trained, restored)
    assert list((run.folder / "pictures").iterdir())
    table = rebar.compare.read(run.folder)
    assert {f"estimator_variance/{part}" for part in ("q_0", "q_1", "p")} < {*table["quantity"]}
    assert table["latents"].iloc[0] == "['5', '3x2']"


@pytest.mark.parametrize(
    "settings",
    [
        {"epoch": 1},
        {"epochs": -1},
        {"epochs": 1.5},
        {"seed": "0"},
        {"jit": True},
        {"draw": True, "eval_freq": 0},
        {"model": "SBNDisarm"},
        {"preset": "disarm"},
        {"hparams": 3},
    ],
)
def test_invalid_settings_are_refused_before_anything_is_written(fit, tmp_path, settings):
    with pytest.raises(RebarError):
        fit(**settings)
    assert not (tmp_path / "runs").exists()
