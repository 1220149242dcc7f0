"""The train command: whole runs on the digits, plugins, help, and output that a log can hold."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rebar
from rebar import registry
from rebar.cli import train
from rebar.estimators.reinforce import Reinforce
from rebar.hparams import HParams
from rebar.hparams.presets import PRESETS
from rebar.runs.records import parse_log
from rebar.training.blocks import Blocks

ROOT = Path(__file__).parents[2]
STEPS = 55  # an epoch of the digits: 54 minibatches of 24 and one of 1
SOURCE = os.environ.get("REBAR_DATA_SOURCE", "")

OWN = '''
import rebar
from rebar.estimators.reinforce import Reinforce


class Half(Reinforce):
    """Half of REINFORCE's gradient."""

    def estimate(self, model, x, noise):
        estimate = super().estimate(model, x, noise)
        return estimate._replace(gradients=[g / 2 for g in estimate.gradients])


rebar.register("Half", Half, min_rows=2)
'''


@pytest.fixture
def run(tmp_path):
    """The command in this process, not compiled, with its folders below tmp_path."""

    def run(hparams, *flags):
        folders = [f"--working_dir={tmp_path / 'runs'}", f"--data_dir={tmp_path / 'data'}"]
        arguments = [f"--hparams={hparams}", "--jit=off", "--epochs=1", *folders, *flags]
        return train.main(["rebar_train.py", *arguments])

    return run


@pytest.fixture
def own_estimators(monkeypatch, own_registry):
    """What a test registers or imports is forgotten after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def only_run(tmp_path):
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def check_agreement(folder, text, steps=STEPS):
    """The printed lines say what metrics.jsonl says; returns the last record."""
    printed = parse_log(text)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in printed] == [r["step"] for r in records]
    assert records[-1]["step"] == steps
    for line, record in zip(printed, records, strict=True):
        names = list(record)
        metrics = names[names.index("epoch") + 1 : names.index("log_variance")]
        assert metrics[0] == "elbo"
        values = [-np.inf if record[n] is None else record[n] for n in metrics]
        np.testing.assert_allclose(line["values"], values, atol=1e-8)
        assert line["log_variance"] == record["log_variance"]
        for name in ("valid", "test"):
            assert (line[name] is None) == (name not in record)
            if name in record:
                np.testing.assert_allclose(line[name][0], record[name], atol=1e-8)
    return records[-1]


@pytest.mark.parametrize(
    "hparams",
    [
        "task=digits,model=SBNNVIL",
        "task=digits,model=SBNDynamicRebar",
        "task=digits,model=SBNGumbel",
        "task=digits,model=SBNTrackGradVariances,follow=NVIL,track=[MuProp,NVIL,REBAR]",
        "task=sp_digits,model=SBNNVIL,n_layer=2,conditional=2017",
        "task=sp_digits,model=SBNDisARM,n_layer=2,conditional=multilayer,dynamic_b=true",
        "task=digits,model=SBN,n_samples=2,batch_size=300,nonlinear=true,dynamic_b=true",
    ],
)
def test_whole_runs(run, tmp_path, capsys, hparams):
    assert run(f"n_hidden=4,{hparams}", "--eval_freq=1", "--eval_samples=3") == 0
    out, err = capsys.readouterr()
    assert err == ""
    folder = only_run(tmp_path)
    steps = 5 if "batch_size=300" in hparams else STEPS
    record = check_agreement(folder, out, steps)
    assert -45 < record["elbo"] < record["valid"] < 0
    names = {re.sub(r"\d+", "N", path.name.partition(".out")[0]) for path in folder.iterdir()}
    assert names == {".lock", "checkpoint-N.npz", "metrics.jsonl", "hparams.json", "events"}
    about = json.loads((folder / "hparams.json").read_text())
    assert about["seed"] == 0
    given = HParams.parse(f"n_hidden=4,{hparams}")
    assert about["hparams"] == given.to_dict() != HParams().to_dict()
    conditional = re.search(r"conditional=(\w+)", hparams)
    objective = f"conditional={conditional[1]}" if conditional else "ELBO: log p(x, b)"
    assert about["objective"].startswith(objective)
    assert f"objective: {about['objective']}\n" in out


def test_a_preset_is_printed_recorded_and_overridden(run, tmp_path, capsys):
    """What the user gives counts; a name adds nothing to a run that its hparams do not say."""
    hparams = "task=digits,model=SBNDisARM,n_hidden=4,learning_rate=0.002"
    assert run(hparams, "--preset=disarm_nonlinear", "--training_steps=3") == 0
    out = capsys.readouterr().out
    record = f"disarm_nonlinear: {PRESETS['disarm_nonlinear']}"
    assert f"\npreset: {record}\n" in out
    folder = only_run(tmp_path)
    about = json.loads((folder / "hparams.json").read_text())
    assert about["preset"] == record
    expected = HParams.parse(PRESETS["disarm_nonlinear"], hparams)
    assert about["hparams"] == expected.to_dict()
    assert (expected.learning_rate, expected.batch_size) == (0.002, 50)
    assert "binarized anew at each use" in about["data"]
    trained = rebar.load_model(folder)
    assert (trained.hparams, trained.step) == (expected, 3)
    assert trained.model.get_config()["activation"] == "leaky_relu"
    assert trained.model.get_config()["initializer"] == "glorot"

    assert run(expected.format(), "--training_steps=5") == 0
    out = capsys.readouterr().out
    assert f"resuming at step 3 from {folder}" in out
    assert "\npreset:" not in out


def test_stopped_and_started_again(run, tmp_path, capsys):
    """In two commands, the second of them for longer; then it is complete."""
    hparams = "model=SBNNVIL,task=digits,n_hidden=4"
    assert run(hparams, "--training_steps=30") == 0
    assert [r["step"] for r in parse_log(capsys.readouterr().out)] == [30]
    assert run(hparams) == 0
    out = capsys.readouterr().out
    folder = only_run(tmp_path)
    assert f"resuming at step 30 from {folder / 'checkpoint-30.npz'}\n" in out
    in_two = parse_log(out)
    assert run(hparams) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("already complete: 55 of 55 steps")
    assert run(hparams, f"--working_dir={tmp_path / 'other'}") == 0
    assert parse_log(capsys.readouterr().out) == in_two


def test_the_variance_of_the_estimators_alone(run, tmp_path, capsys):
    """A line and a record for each; a run that did not measure goes on as one that does."""
    tracked = "model=SBNTrackGradVariances,track=[NVIL,DisARM],follow=DisARM"
    for model, labels in ((tracked, ["DisARM", "NVIL"]), ("model=SBN", ["REINFORCE"])):
        flags = [f"--working_dir={tmp_path / labels[0]}"]
        hparams = f"task=digits,n_hidden=4,n_layer=2,{model}"
        if model == tracked:
            assert run(hparams, *flags, "--training_steps=9") == 0
            assert "\nVariance" not in capsys.readouterr().out
        assert run(hparams, *flags, "--variance_freq=1", "--variance_draws=5") == 0
        out = capsys.readouterr().out
        assert re.findall(r"^Variance 55 (\w+): total \d", out, re.MULTILINE) == labels
        (folder,) = (tmp_path / labels[0]).iterdir()
        record = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
        assert sorted(record["estimator_variance"]) == labels
        assert record["variance_draws"] == 5
        calls = {"DisARM": 3 * 24, "NVIL": 24, "REINFORCE": 24}
        for label, parts in record["estimator_variance"].items():
            assert {"total", "q", "q_0", "q_1", "p"} < set(parts)
            assert parts["evaluations"] == calls[label]


def test_compiled_by_choice_of_the_estimator_or_of_the_user(
    run, capsys, monkeypatch, own_estimators
):
    """auto: as the estimator says. Nothing is compiled here: the choice is looked at."""
    chosen = []

    def blocks(learner, train, batch_size, n_samples, seed, jit, dynamic):
        chosen.append(jit)
        return Blocks(learner, train, batch_size, n_samples, seed, False, dynamic)

    monkeypatch.setattr("rebar.training.run.Blocks", blocks)
    registry.register("Interpreted", type("Interpreted", (Reinforce,), {"jit_pays": False}))
    for model, flag in (("Interpreted", "auto"), ("SBNRebar", "auto"), ("Interpreted", "on")):
        hparams = f"model={model},task=digits,n_hidden=2"
        assert run(hparams, f"--jit={flag}", "--training_steps=1") == 0
    assert run("model=SBNRebar,task=digits,n_hidden=2", "--jit=off", "--training_steps=2") == 0
    assert chosen == [False, True, True, False]
    assert capsys.readouterr().out.count("\njit: True\n") == 2


def test_an_estimator_of_the_users_own(run, tmp_path, capsys, monkeypatch, own_estimators):
    (tmp_path / "my_half.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    flags = ["--plugins=my_half", "--training_steps=4"]
    assert run("model=Half,task=digits,n_hidden=4", *flags) == 0
    check_agreement(only_run(tmp_path), capsys.readouterr().out, steps=4)
    assert train.main(["rebar_train.py", "--plugins=my_half", "--help"]) == 0
    assert "CatTrackGradVariances, Half." in capsys.readouterr().out


def test_help_tells_every_flag_and_hparam_without_tensorflow():
    code = (
        "import sys\n"
        "from rebar.cli.train import main\n"
        "assert main(['rebar_train.py', '--help']) == 0\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    for text in ("--working_dir", "--[no]download", "--seed", "(default: '2000000')"):
        assert text in done.stdout
    assert "  n_layer=1  (int) Stochastic layers.\n" in done.stdout
    assert re.search(r"  task=sbn  \(str\) .* One of: sbn, sp, .*digits", done.stdout)
    for name, string in PRESETS.items():
        assert f"  {name}  {string}\n" in done.stdout


def test_a_reader_that_goes_away_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    code = "import sys; from rebar.cli.train import main; sys.exit(main(['x', '--help']))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (128 + 13, b"")


def test_nothing_but_lines_in_a_redirected_log(tmp_path):
    """No progress bar, no start-up lines of TensorFlow's; without matplotlib if nothing is drawn.

    Keras imports it for itself where it finds it; the train command must not.
    """
    code = (
        "import runpy, sys; sys.modules['matplotlib'] = None; sys.argv[0] = 'rebar_train.py'; "
        f"runpy.run_path({str(ROOT / 'rebar_train.py')!r}, run_name='__main__')"
    )
    arguments = [
        "--hparams=model=SBNNVIL,task=digits,n_hidden=4",
        "--epochs=2",
        "--eval_freq=2",
        "--eval_samples=250",
        f"--working_dir={tmp_path}",
    ]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert not set(done.stdout) & set(b"\r\x1b")
    assert [r["step"] for r in parse_log(done.stdout.decode())] == [55, 110]


def test_ctrl_c_before_training_starts(run, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "ensure", interrupted)
    assert run("model=SBNNVIL,task=digits") == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


@pytest.mark.parametrize(("number", "status"), [(None, 0), (2, 130), (15, 143)])
def test_a_signal_is_told_by_the_exit_status(run, monkeypatch, number, status):
    monkeypatch.setattr("rebar.training.run.Run.train", lambda self: number)
    assert run("model=SBNNVIL,task=digits,n_hidden=2") == status


@pytest.mark.real_data
@pytest.mark.skipif(
    not (SOURCE and Path(SOURCE).is_dir()),
    reason="REBAR_DATA_SOURCE names no folder that holds the data sets",
)
def test_real_data(run, tmp_path, capsys):
    """Two calls of many steps; the ELBO is that of an untrained model on its way down."""
    flags = [f"--source={SOURCE}", "--training_steps=200", "--eval_freq=0"]
    assert run("model=SBNNVIL,task=sbn,n_hidden=20", *flags) == 0
    out, err = capsys.readouterr()
    assert err.count("error") == 0
    assert "binarized_mnist_train.amat" in out
    record = check_agreement(only_run(tmp_path), out, steps=200)
    assert -260 < record["elbo"] < -180
    assert run("model=SBNNVIL,task=sbn,n_hidden=20", "--download=no", *flags) == 0
    assert "already complete" in capsys.readouterr().out
