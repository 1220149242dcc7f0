"""load_model: the trained model from a run's folder alone."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.errors import RebarError
from rebar.factory import make_learner
from rebar.hparams import HParams
from rebar.runs import checkpoint
from tests.digits_run import train


@pytest.mark.parametrize("task", ["digits", "sp_digits"])
def test_a_trained_model_comes_back_as_it_was(tmp_path, task):
    learner, data, folder = train(tmp_path, task, steps=3)
    trained = rebar.load_model(folder)
    assert trained.step == 3
    assert trained.hparams.task == task
    fresh = make_learner(trained.hparams, data.mean, task == "sp_digits").model
    changed = 0
    for before, after, initial in zip(
        learner.model.variables, trained.model.variables, fresh.variables, strict=True
    ):
        np.testing.assert_array_equal(before, after)
        changed += not np.array_equal(after, initial)
    assert changed == len(fresh.variables)
    x = data.test[:5].astype(np.float32)
    np.testing.assert_array_equal(learner.model(x), trained.model(x))


def test_the_folder_is_enough(tmp_path):
    _, _, folder = train(tmp_path, "digits", steps=1)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (checkpoint_file,) = folder.glob("checkpoint-*.npz")
    shutil.copy(checkpoint_file, moved)
    assert rebar.load_model(str(moved)).model.n_units == (4, 4)
    rebar.load_model(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_run_of_before_a_hyperparameter_was_added(tmp_path):
    _, _, folder = train(tmp_path, "digits", steps=1)
    found = checkpoint.latest(folder)
    hparams = dict(found.metadata["hparams"])
    assert hparams.pop("multi_sample") is False
    metadata = {**found.metadata, "hparams": hparams}
    variables = {name: tf.constant(value) for name, value in found.variables.items()}
    checkpoint.save(tmp_path / "old", 1, variables, found.extra, metadata)
    assert rebar.load_model(tmp_path / "old").hparams == rebar.load_model(folder).hparams


def test_a_damaged_newest_checkpoint_is_told_of_once(tmp_path):
    _, _, folder = train(tmp_path, "digits", steps=1)
    (folder / "checkpoint-2.npz").write_bytes(b"not an archive")
    with pytest.warns(RuntimeWarning) as caught:
        trained = rebar.load_model(folder)
    assert trained.step == 1
    assert len(caught) == 1
    assert "checkpoint-2.npz" in str(caught[0].message)


def test_what_is_refused(tmp_path):
    with pytest.raises(RebarError, match=r"no checkpoint in .*nowhere.*prints after 'run:'"):
        rebar.load_model(tmp_path / "nowhere")
    checkpoint.save(tmp_path / "old", 1, {}, {}, {"hparams": HParams().to_dict()})
    with pytest.raises(RebarError, match=r"checkpoint-1\.npz does not hold .* the training mean"):
        rebar.load_model(tmp_path / "old")
    unknown = HParams().to_dict() | {"model": "Mine"}
    checkpoint.save(tmp_path / "mine", 1, {}, {"input_mean": np.zeros(4)}, {"hparams": unknown})
    with pytest.raises(RebarError, match=r"unknown model 'Mine'.*rebar\.register"):
        rebar.load_model(tmp_path / "mine")
    other = HParams().to_dict()
    checkpoint.save(tmp_path / "other", 1, {}, {"input_mean": np.zeros(4)}, {"hparams": other})
    with pytest.raises(RebarError, match=r"does not fit the variables of this program"):
        rebar.load_model(tmp_path / "other")
