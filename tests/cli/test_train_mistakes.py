"""The train command and its users' mistakes: one line each, exit status 2, nothing half written."""

import json
import shutil
import sys

import pytest

from rebar.cli import train
from rebar.hparams.presets import PRESETS


@pytest.fixture
def refused(tmp_path, capsys):
    """Run the command; returns its one line of error, having checked that nothing else came."""

    def refused(*flags):
        folders = [f"--working_dir={tmp_path / 'runs'}", f"--data_dir={tmp_path / 'data'}"]
        status = train.main(["rebar_train.py", "--epochs=1", "--jit=off", *folders, *flags])
        lines = capsys.readouterr().err.splitlines(keepends=True)
        err = "".join(line for line in lines if not line.startswith("warning: no model given"))
        assert status == 2
        assert err.startswith("error: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        return err.removeprefix("error: ")

    return refused


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ("task=nist", "task='nist': choose from sbn, sp, omni, fashion, digits, sp_digits"),
        ("model=SBNFoo", "model='SBNFoo': choose from SBN, SBNNVIL,"),
        ("learning_rat=1", "learning_rat"),
        ("n_layer=two", "n_layer"),
        ("n_layer=1.5", "n_layer"),
        ("nonlinear=maybe", "nonlinear"),
        ("n_hidden=0", "n_hidden=0: must be at least 1"),
        ("learning_rate=-1", "learning_rate=-1.0: must be above 0"),
        ("n_samples=0", "n_samples=0: must be at least 1"),
        ("activation=relu", "activation='relu': choose from tanh, leaky_relu"),
        ("initializer=he", "initializer='he': choose from 2017, glorot"),
        ("prior_optimizer=SGD", "prior_optimizer='SGD': choose from adam, sgd"),
        ("learning_rate_prior=-1", "learning_rate_prior=-1.0: must be above 0 and finite, or 0"),
        ("learning_rate_control=inf", "learning_rate_control=inf: must be above 0 and finite"),
        ("beta2=1", "beta2=1.0: must be at least 0 and below 1"),
        ("task=sp_digits,n_input=63", "n_input=63: must be even for task=sp_digits"),
        ("task=digits,n_input=784", "task=digits have 64 pixels; remove it"),
        ("model=SBN,batch_size=1,task=digits", "batch_size=1,n_samples=1: SBN"),
        (
            "model=SBNTrackGradVariances,follow=NVIL,track=[REBAR]",
            "follow=NVIL: not in track=[REBAR]",
        ),
        ("n_layer", "malformed clause 'n_layer'; write name=value"),
    ],
)
def test_hparams(refused, tmp_path, hparams, message):
    assert message in refused(f"--hparams={hparams}")
    assert {path.name for path in files(tmp_path)} <= {".lock"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed=-1"], "seed=-1"),
        (["--seed=x"], "--seed=x"),
        (["--training_steps=0"], "training_steps=0"),
        (["--eval_samples=0"], "eval_samples=0"),
        (["--variance_freq=-1"], "variance_freq=-1"),
        (["--variance_draws=3"], "variance_draws=3"),
        (["--draw", "--eval_freq=0"], "draw=True: needs evaluations, but eval_freq=0"),
        (["--jit=maybe"], "--jit=maybe"),
        (["--keep_epochs=1,0,x"], "keep_epochs=[1,0,x]"),
        (["--variance_draws=1000001"], "variance_draws=1000001"),
        (["--preset=disarm"], "; did you mean disarm_linear"),
        (["--preset="], "unknown preset ''"),
        (["--preset=disarm_linear", "--preset=cat_8x4_st"], "already defined as disarm_linear"),
        (["--download=perhaps"], "--download=perhaps"),
        (["--modle=SBN"], "Unknown command line flag 'modle'"),
        (["model=SBN", "task=sbn"], "'model=SBN task=sbn': unexpected"),
    ],
)
def test_flags(refused, tmp_path, flags, message):
    assert message in refused(*flags)
    assert list(tmp_path.iterdir()) == []


def test_a_preset_is_named_as_it_was_typed(tmp_path, capsys):
    typed = ["--preset=disarm_linear", "--hparams=model=CatST,task=digits,prior=learned"]
    assert train.main(["rebar-train", f"--working_dir={tmp_path}", *typed]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    hparams = '--hparams="model=CatST,task=digits,prior=learned"'
    assert first.startswith(f"error: cannot use --preset=disarm_linear {hparams}: initializer=")
    assert rest == [f"--preset=disarm_linear sets {PRESETS['disarm_linear']}"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--download=no", "--nodownload", "--download=false"])
def test_missing_data_that_may_not_be_fetched(refused, tmp_path, flag):
    message = refused("--hparams=task=omni", flag)
    assert f"{tmp_path / 'data' / 'omniglot' / 'chardata.mat'} is missing" in message
    command = f"python download_data.py --datasets=omniglot --data_dir={tmp_path / 'data'}"
    assert f"type: {command}" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["yes", "true", "True"])
def test_data_may_be_fetched(refused, tmp_path, value):
    """From a folder that is not there, so that nothing is fetched in the end."""
    message = refused("--hparams=task=omni", f"--download={value}", "--source=/not/there")
    assert "source '/not/there': must be a folder" in message


def test_a_corrupt_data_file(refused, tmp_path):
    folder = tmp_path / "data" / "binarized_mnist"
    folder.mkdir(parents=True)
    for part in ("train", "valid", "test"):
        (folder / f"binarized_mnist_{part}.amat").write_bytes(b"0 1 0 1\n" * 3)
    before = files(tmp_path)
    message = refused("--hparams=task=sbn", "--download=no")
    assert "binarized_mnist_train.amat" in message
    assert "python download_data.py --datasets=binarized_mnist" in message
    assert files(tmp_path) == before


def test_a_file_in_place_of_the_working_dir(refused, tmp_path):
    (tmp_path / "runs").write_text("mine")
    message = refused("--hparams=task=digits,n_hidden=2")
    assert f"cannot create or lock {tmp_path / 'runs'}" in message
    assert files(tmp_path) == {(tmp_path / "runs").relative_to(tmp_path): b"mine"}


def test_a_checkpoint_of_another_configuration(refused, tmp_path, capsys):
    def flags(hidden):
        return [
            f"--hparams=model=SBNNVIL,task=digits,n_hidden={hidden}",
            f"--working_dir={tmp_path / 'runs'}",
            "--training_steps=1",
            "--jit=off",
        ]

    for hidden in (2, 3):
        assert train.main(["rebar_train.py", *flags(hidden)]) == 0
    two, three = sorted((tmp_path / "runs").iterdir())
    shutil.rmtree(three)
    shutil.copytree(two, three)
    before = files(tmp_path)
    capsys.readouterr()
    message = refused(*flags(3))
    assert f"{three / 'checkpoint-1.npz'} is of another run: n_hidden: saved 2, now 3" in message
    assert files(tmp_path) == before


@pytest.fixture
def modules(tmp_path, monkeypatch, own_registry):
    """The current folder is an empty one; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def test_a_plugin_that_is_not_there(refused, modules):
    message = refused("--plugins=my_absent")
    assert "--plugins=my_absent: No module named 'my_absent'" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (\n", r"SyntaxError: '(' was never closed (my_wrong.py, line 1)"),
        ("\n1 / 0\n", "ZeroDivisionError: division by zero ("),
        (
            "import rebar\nrebar.register('SBN', 'a:B')\n",
            "model 'SBN' (label 'SBN'): already registered",
        ),
        ("import my_absent\n", "No module named 'my_absent'"),
    ],
)
def test_a_plugin_that_fails(refused, modules, text, message):
    (modules / "my_wrong.py").write_text(text)
    error = refused("--plugins=my_wrong")
    assert error.startswith("--plugins=my_wrong: ")
    assert message in error
    if "ZeroDivision" in message:
        assert f"({modules / 'my_wrong.py'}:2)" in error


BROKEN = """
import numpy as np
import rebar
from rebar.estimators.reinforce import Reinforce


class Broken(Reinforce):
    def estimate(self, model, x, noise):
        estimate = super().estimate(model, x, noise)
        return estimate._replace(gradients=[g * np.nan for g in estimate.gradients])


rebar.register("Broken", Broken)
"""


def test_numbers_that_are_not_finite(refused, modules):
    (modules / "my_broken.py").write_text(BROKEN)
    message = refused("--plugins=my_broken", "--hparams=model=Broken,task=digits,n_hidden=2")
    assert "non-finite value in the gradient of prior/logits at step 1 (step 0 was " in message
    assert "with the estimator Broken;" in message
    (folder,) = (modules / "runs").iterdir()
    assert not list(folder.glob("checkpoint*"))
    assert not (folder / "metrics.jsonl").exists()
    assert json.loads((folder / "hparams.json").read_text())["hparams"]["model"] == "Broken"
