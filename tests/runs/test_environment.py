"""Settings outside the command line: refused, or recorded, compared on resume and told apart."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.cli import train
from rebar.compare.groups import comparisons
from rebar.compare.reading import read
from rebar.errors import RebarError
from rebar.runs import environment
from tests.compare.synthetic import write_run

TRAIN = "import sys; from rebar.cli import train; sys.exit(train.main(sys.argv))"
CLASS = "import rebar; rebar.SBNRebar('n_hidden=4', [.5] * 8)"


def python(code, *arguments, **variables):
    command = [sys.executable, "-c", code, *arguments]
    variables = {**os.environ, **variables}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=100)
    return done.returncode, done.stderr


def test_the_train_command_refuses_other_backends(tmp_path):
    flags = ["--hparams=model=SBNDisARM,task=digits", f"--working_dir={tmp_path / 'runs'}"]
    status, err = python(TRAIN, *flags, KERAS_BACKEND="torch")
    assert (status, err.count("\n")) == (2, 1), err
    assert err.startswith("error: Keras backend 'torch'")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("variables", [{}, {"KERAS_BACKEND": ""}])
def test_the_backend_is_chosen_whatever_the_file_of_keras_names(monkeypatch, variables):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(os, "environ", dict(variables))
    environment.check_backend()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


def test_the_library_names_another_backend():
    status, err = python(CLASS, KERAS_BACKEND="torch")
    assert status == 1
    assert err.splitlines()[-1].startswith("rebar.errors.RebarError: Keras backend 'torch'")


def test_names_without_tensorflow_work_under_any_backend():
    code = "import rebar; rebar.HParams.parse('n_hidden=4'); rebar.RebarError"
    assert python(code, KERAS_BACKEND="torch")[0] == 0


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_models_refuse_other_policies(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        with pytest.raises(RebarError, match=f"dtype policy '{policy}': must be 'float32'"):
            rebar.SBNDynamicRebar("n_hidden=8", np.full(16, 0.5))
    finally:
        keras.config.set_dtype_policy(before)


def test_double_precision_is_recorded():
    before = keras.config.dtype_policy()
    assert "dtype_policy" not in environment.settings()
    keras.config.set_dtype_policy("float64")
    try:
        environment.check()
        assert environment.settings()["dtype_policy"] == "float64"
    finally:
        keras.config.set_dtype_policy(before)


def test_the_functional_interface_is_open_to_other_policies():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        logits = np.zeros((2, 3, 4), np.float32)
        assert rebar.straight_through.reinmax(logits, seed=0, step=0)[0].shape == (2, 3, 4)
    finally:
        keras.config.set_dtype_policy(before)


@pytest.fixture
def run(tmp_path, capsys):
    def run(steps):
        hparams = "--hparams=model=SBNDisARM,task=digits,n_hidden=2"
        flags = [f"--training_steps={steps}", "--jit=off", "--eval_freq=0"]
        assert train.main(["rebar-train", hparams, *flags, f"--working_dir={tmp_path}"]) == 0
        (folder,) = tmp_path.iterdir()
        about = json.loads((folder / "hparams.json").read_text())
        return about, capsys.readouterr().out

    return run


def test_variables_are_recorded_and_compared_on_resume(run, monkeypatch):
    for name in environment._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    about, out = run(1)
    assert "environment" not in about
    assert "environment:" not in out
    for name in environment._VARIABLES:
        monkeypatch.setenv(name, "0")
    about, out = run(2)
    assert about["environment"] == dict.fromkeys(environment._VARIABLES, "0")
    assert out.count(": saved '(none)', now '0'") == len(environment._VARIABLES)
    assert "environment changed" not in run(3)[1]
    monkeypatch.delenv("XLA_FLAGS")
    assert "XLA_FLAGS: saved '0', now '(none)'" in run(4)[1]


def test_settings_made_in_python_are_recorded():
    assert environment.settings() == {}
    tf.config.experimental.enable_tensor_float_32_execution(False)
    keras.config.set_image_data_format("channels_first")
    try:
        found = environment.settings()
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(True)
        keras.config.set_image_data_format("channels_last")
    assert found == {"tensor_float_32": "False", "image_data_format": "channels_first"}


def test_threads_and_compilation_are_compared():
    mode = environment.mode(True)
    assert mode["jit"] is True
    assert mode["intra_op_threads"] >= 1
    assert environment.mode(False) != mode


def test_runs_of_other_environments_are_lines_of_their_own(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, seed=seed, about={"jit": False})
    write_run(tmp_path, seed=2, about={"environment": {"NVIDIA_TF32_OVERRIDE": "1"}})
    write_run(tmp_path, "SBNNVIL", about={"jit": True})
    (comparison,) = comparisons(read([str(tmp_path)])[0])
    assert [len(line.runs) for line in comparison.lines] == [2, 1, 1]
    names = {line.name for line in comparison.lines}
    assert {"DisARM, environment=default", "DisARM, environment=NVIDIA_TF32_OVERRIDE=1"} < names
    assert any(note.startswith("jit differs") for note in comparison.notes)
