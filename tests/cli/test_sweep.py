"""The sweep command with stub runs: complete, resumed, failed, stopped; and its errors."""

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rebar.cli import sweep
from rebar.runs.lock import FolderLock
from rebar.sweep import cluster, job
from tests.sweep import stub_train

ROOT = Path(__file__).parents[2]
GRID = "--hparams=task=digits,n_hidden=4,model={SBN,SBNARM,SBNNVIL}"

needs_submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None,
    reason="submitit is not installed: pip install 'rebar-gradients[cluster]'",
)


@pytest.fixture
def stub(monkeypatch):
    """Runs are the stub's instead of the train command's."""
    monkeypatch.setattr(job, "TRAIN", stub_train.TRAIN)


@pytest.fixture
def run(tmp_path, capsys):
    """The command on stub runs; returns its status and the lines that it printed."""

    def run(*own, train=("--epochs=4",), grid=GRID):
        argv = ["rebar-sweep", grid, f"--sweep_dir={tmp_path / 's'}", *own, "--", *train]
        status = sweep.main(argv)
        return status, capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def refused(tmp_path, capsys):
    """What the command says on stderr, having checked that nothing was started or written."""

    def refused(*flags):
        status = sweep.main(["rebar-sweep", f"--sweep_dir={tmp_path / 's'}", *flags])
        out, err = capsys.readouterr()
        assert status == 2
        assert out == ""
        assert err.startswith("error: ")
        assert "Traceback" not in err
        assert list(tmp_path.iterdir()) == []
        return err

    return refused


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def run_folders(tmp_path):
    return sorted(path.parent for path in (tmp_path / "s").glob("*/metrics.jsonl"))


def test_a_whole_sweep_and_again(run, stub, tmp_path):
    status, lines = run("--seeds=0,1", "--workers=2")
    assert status == 0
    assert lines[0].startswith("6 runs: 0 finished, 0 begun, 6 not started")
    assert lines[-1] == "6 runs: 6 finished, 0 begun, 0 not started"
    for number, label in enumerate(["SBN", "SBNARM", "SBNNVIL"] * 2, start=1):
        start = f"[{number}/6] model={label} seed={(number - 1) // 3}  "
        assert f"{start}starts" in lines
        (end,) = (line for line in lines if line.startswith(f"{start}finished"))
        assert re.search(r"finished: step 40, ELBO -21\.00, test bound -19\.50$", end)
    folders = run_folders(tmp_path)
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert sorted(record["folder"] for record in manifest["runs"]) == [f.name for f in folders]
    for record in manifest["runs"]:
        log = tmp_path / "s" / "logs" / f"{record['folder']}.log"
        assert log.read_text().endswith("first epoch: 0\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status, lines = run("--seeds=0,1", "--workers=2")
    assert status == 0
    assert lines[0].startswith("6 runs: 6 finished, 0 begun, 0 not started")
    assert len(lines) == 2
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_failures_are_told_and_mended(run, stub, tmp_path, monkeypatch):
    """One fails, one ends with status 0 half-way; the rest goes on, and they do when mended."""
    monkeypatch.setenv("STUB_FAIL", "SBNARM")
    monkeypatch.setenv("STUB_LIE", "SBN")
    status, lines = run("--workers=1")
    assert status == 1
    assert lines[-3] == "3 runs: 1 finished, 2 begun, 0 not started, 2 failed"
    assert "model=SBN seed=0: ended early; ELBO -21.00; saved: step 20" in lines[-2]
    assert "model=SBNARM seed=0: exit status 3; saved: step 20" in lines[-1]
    (at,) = (number for number, line in enumerate(lines) if "FAILED: exit status 3" in line)
    assert lines[at + 1 : at + 3] == [
        "    | cores: " + lines[at + 1].split("cores: ")[1],
        "    | the stub is broken",
    ]
    monkeypatch.delenv("STUB_FAIL")
    monkeypatch.delenv("STUB_LIE")
    status, lines = run("--workers=1")
    assert status == 0
    assert lines[0].startswith("3 runs: 1 finished, 2 begun, 0 not started")
    assert "[1/3] model=SBN seed=0  resumes at step 20" in lines
    for folder in run_folders(tmp_path):
        assert [record["step"] for record in records(folder)] == [10, 20, 30, 40]


def test_a_larger_grid_and_more_epochs(run, stub, tmp_path):
    assert run()[0] == 0
    status, lines = run("--seeds=0,1", train=["--epochs=6"])
    assert status == 0
    assert lines[0].startswith("6 runs: 0 finished, 3 begun, 3 not started")
    assert run("--seeds=1", train=["--epochs=6"])[1][0].startswith("3 runs: 3 finished")


def test_damage_is_repaired(run, stub, tmp_path):
    assert run()[0] == 0
    first, second, _ = run_folders(tmp_path)
    (first / "checkpoint-40.npz").write_bytes(b"no")
    lines = (second / "metrics.jsonl").read_text().splitlines(keepends=True)
    (second / "metrics.jsonl").write_text("".join(lines[:-1]) + lines[-1][:9])
    status, lines = run()
    assert lines[0].startswith("3 runs: 1 finished, 2 begun")
    # The first goes on from its older checkpoint. The second's checkpoint says that all is done,
    # so what its records lack cannot come back: it is not called finished.
    assert status == 1
    assert [record["step"] for record in records(first)] == [10, 20, 30, 40]
    assert "its records are incomplete" in lines[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal(run, stub, tmp_path, monkeypatch, number):
    monkeypatch.setenv("STUB_SLOW", "0.2")
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)

    def send():
        while len(run_folders(tmp_path)) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        status, lines = run("--workers=2", train=["--epochs=200"])
    finally:
        thread.join()
        signal.signal(signal.SIGINT, previous)
    assert status == 128 + number
    assert lines[-1] == "3 runs: 0 finished, 2 begun, 1 not started"
    assert sum(bool(re.search(r"stopped by \w+; saved: step \d+0$", s)) for s in lines) == 2
    assert sum("starts" in line for line in lines) == 2
    monkeypatch.setenv("STUB_SLOW", "0")
    status, lines = run("--workers=2", train=["--epochs=4"])
    assert status == 0
    assert "2 begun, 1 not started" in lines[0] or "finished" in lines[0]


def test_cores_are_shared_out(run, stub, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "cores", lambda: 7)

    def flags(*own, train=("--epochs=1",)):
        status, lines = run("--dry_run", *own, train=train)
        assert status == 0
        words = [shlex.split(line)[1:] for line in lines[1:]]
        return {tuple(w for w in line if re.match("--(cores|threads)", w)) for line in words}

    assert flags("--workers=2") == {("--cores=3",)}
    assert flags("--workers=7") == {("--cores=2",)}  # Three runs, so three at a time.
    assert flags("--seeds=0,1,2") == {("--cores=1",)}
    assert flags("--workers=2", train=["--threads=5"]) == {("--threads=5",)}
    assert flags("--workers=2", train=["--cores=5"]) == {("--cores=5",)}
    assert flags("--engine=slurm") == {()}
    assert flags("--engine=slurm", "--engine_options=cpus_per_task=4") == {("--cores=4",)}
    assert list(tmp_path.iterdir()) == []


def test_dry_run(run, stub, tmp_path):
    assert run("--workers=1")[0] == 0
    (first, *_) = run_folders(tmp_path)
    (first / "metrics.jsonl").unlink()
    before = sorted(tmp_path.rglob("*"))
    status, lines = run("--dry_run", "--workers=1")
    assert status == 0
    assert lines[0] == "3 runs: 2 finished, 1 begun, 0 not started"
    assert sum(line.startswith("# finished: rebar-train --hparams=") for line in lines) == 2
    assert sum(line.startswith("rebar-train --hparams=") for line in lines) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_two_sweeps_in_one_folder(run, stub, tmp_path):
    lock = FolderLock(tmp_path / "s", "")
    assert run()[0] == 2
    lock.close()
    assert run()[0] == 0


@needs_submitit
def test_by_submitit(run, stub, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB_FAIL", "SBN")
    status, lines = run("--engine=local", "--engine_options=timeout_min=1,cpus_per_task=2")
    assert status == 1
    assert any(re.search(r"model=SBNARM seed=0  is job \d+$", line) for line in lines)
    assert any("model=SBNARM seed=0  finished: step 40, ELBO -21.00" in line for line in lines)
    assert "    | the stub is broken" in lines
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert {job["engine"] for job in manifest["jobs"].values()} == {"local"}
    monkeypatch.delenv("STUB_FAIL")
    status, lines = run("--engine=local", "--engine_options=timeout_min=1,cpus_per_task=2")
    assert status == 0
    assert sum(" is job " in line for line in lines) == 1


# submitit's local jobs are processes, and nobody waits for them here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@needs_submitit
def test_submitted_and_left_alone(run, stub, tmp_path, monkeypatch):
    """What is in the queue already is not submitted twice."""
    monkeypatch.setattr(cluster.Cluster, "_alive", lambda self, ids: ids)
    status, first = run("--engine=local", "--nowait")
    assert status == 0
    status, lines = run("--engine=local", "--nowait")
    assert status == 0
    again = {line for line in lines if " is job " in line}
    assert len(again) + int(re.search(r"(\d+) finished", lines[0])[1]) == 3
    assert again <= set(first)
    last = time.monotonic() + 30
    while run("--dry_run")[1][0][:18] != "3 runs: 3 finished" and time.monotonic() < last:
        time.sleep(0.2)
    assert run()[0] == 0


@pytest.mark.parametrize(
    ("flags", "messages"),
    [
        (["--hparams=model={SBN"], ["'model={SBN'"]),
        (["--hparams=model={SBN,Foo},n_layer={1,0}"], ["model='Foo'", "n_layer=0"]),
        (["--seeds=a"], ["--seeds=a: "]),
        (["--", "--epoch=s"], ["epoch"]),
        (["--", "--epochs=-1"], ["epochs=-1"]),
        (["--", "--hparams=n_layer=2"], ["--hparams"]),
        (["--", "--seed=2"], ["--seed ", "--seeds"]),
        (["--", "--working_dir=x"], ["--working_dir", "--sweep_dir"]),
        (["--", "--preset=none"], ["'none'"]),
        (["--", "model=SBN"], ["'model=SBN'"]),
        (["--", "--plugins=my_no_such_plugin"], ["--plugins=my_no_such_plugin: "]),
        (["--epochs=3"], ["'epochs'", "after --"]),
        (["model=SBN"], ["'model=SBN'", "after --"]),
        (["--sweep_dir="], ["--sweep_dir=sweeps/digits"]),
        (["--engine=pbs"], ["--engine=pbs"]),
        (["--engine_options=time=5"], ["--engine_options", "--engine=slurm"]),
        (["--engine=slurm", "--engine_options=time"], ["'time'"]),
    ],
)
def test_mistakes(refused, flags, messages):
    said = refused(*flags)
    for message in messages:
        assert message in said


def test_data_that_may_not_be_fetched(tmp_path, stub, capsys):
    """Told once, by the sweep, and no run is started."""
    flags = [f"--sweep_dir={tmp_path / 's'}", "--hparams=task=omni,model={SBN,SBNARM}"]
    rest = ["--", "--download=no", f"--data_dir={tmp_path / 'data'}"]
    assert sweep.main(["rebar-sweep", *flags, *rest]) == 2
    out, err = capsys.readouterr()
    assert err.count("chardata.mat is missing") == 1
    assert "starts" not in out


def test_presets_and_plugins(run, stub, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_sets.py").write_text("import rebar\nrebar.PRESETS\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    train = ["--preset=disarm_linear", "--epochs=1"]
    status, lines = run("--dry_run", grid="--hparams=model={SBN,SBNARM},task=digits", train=train)
    assert status == 0
    assert all("--preset=disarm_linear" in line for line in lines[1:])
    assert len(lines) == 3
    flags = [f"--sweep_dir={tmp_path / 's'}", "--", "--plugins=my_sets"]
    assert sweep.main(["rebar-sweep", *flags]) == 2
    assert "--plugins=my_sets: AttributeError" in capsys.readouterr().err


def test_help(capsys):
    assert sweep.main(["rebar-sweep", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--sweep_dir" in out
    assert "a semicolon stands for a comma" in out


def test_starts_without_tensorflow(tmp_path):
    code = (
        "import sys; from rebar.cli import sweep; status = sweep.main(['rebar-sweep', "
        f"{GRID!r}, '--sweep_dir={tmp_path}/s', '--dry_run', '--', '--epochs=2']); "
        "sys.exit(status or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=-3).returncode == 0


def test_a_real_run(tmp_path, capfd):
    """It is trained by the train command; with more epochs it would continue."""
    grid = ["--hparams=task=digits,n_hidden=4,model=SBNNVIL", f"--sweep_dir={tmp_path}"]
    train = ["--", "--eval_freq=1", "--eval_samples=2", "--jit=off"]
    assert sweep.main(["rebar-sweep", *grid, *train, "--epochs=1"]) == 0
    (path,) = tmp_path.glob("*/metrics.jsonl")
    assert [record["epoch"] for record in records(path.parent)] == [1]
    out = capfd.readouterr().out
    assert "finished: step 55, ELBO -" in out
    assert out.count("test bound -") == 1
    for epochs, state in ((1, "1 finished, 0 begun"), (2, "0 finished, 1 begun")):
        assert sweep.main(["rebar-sweep", *grid, "--dry_run", *train, f"--epochs={epochs}"]) == 0
        assert capfd.readouterr().out.startswith(f"1 run: {state}")
