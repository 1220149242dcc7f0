"""--workers on this machine: the same lines as one process, and what ends a run."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rebar.cli import train

ROOT = Path(__file__).parents[2]
HPARAMS = "task=digits,model=SBN,n_hidden=4,n_layer=2"
PATIENCE = 150
SHELL = {k: v for k, v in os.environ.items() if k not in ("TF_CONFIG", "TF_CPP_MIN_LOG_LEVEL")}


def start(folder, *flags, hparams=HPARAMS, **environment):
    command = [sys.executable, "-m", "rebar.cli.train", f"--hparams={hparams}"]
    folders = [f"--working_dir={folder}", f"--data_dir={folder}"]
    return subprocess.Popen(
        [*command, *folders, "--eval_samples=2", *flags],
        env={**SHELL, "PYTHONPATH": f"{ROOT}:{folder}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, status):
    """stdout and stderr."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == status, err
    return out, err


def workers_of(launcher) -> list[int]:
    """Process numbers of its workers, the chief's first."""
    path = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    return sorted(map(int, path.read_text().split()))


def wait_for_line(launcher, start) -> str:
    for line in launcher.stdout:
        if line.startswith(start):
            return line
    raise AssertionError(f"no line {start}...: {launcher.stderr.read()}")


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5", "2000"])
def test_what_the_flag_cannot_say(text, capsys, tmp_path):
    arguments = ["rebar_train.py", f"--hparams={HPARAMS}", f"--workers={text}"]
    assert train.main([*arguments, f"--working_dir={tmp_path}"]) == 2
    assert "--workers=TF_CONFIG" in capsys.readouterr().err


def test_compiling_is_refused(capsys, tmp_path):
    arguments = ["rebar_train.py", f"--hparams={HPARAMS}", "--workers=2", "--jit=on"]
    assert train.main([*arguments, f"--working_dir={tmp_path}"]) == 2
    assert "cannot be compiled" in capsys.readouterr().err


def test_more_workers_than_images_are_refused(capsys, tmp_path):
    arguments = ["rebar_train.py", f"--hparams={HPARAMS},batch_size=4", "--workers=5"]
    assert train.main([*arguments, f"--working_dir={tmp_path}"]) == 2
    assert "--workers=5: at most as many as a minibatch has images" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_cluster_needs_its_variable(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    arguments = ["rebar_train.py", f"--hparams={HPARAMS}", "--workers=TF_CONFIG"]
    assert train.main([*arguments, f"--working_dir={tmp_path}"]) == 2
    assert "TF_CONFIG, which is not set" in capsys.readouterr().err


def records_of(folder) -> list[dict]:
    (path,) = folder.glob("SBN*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_loss(launcher, victim, status) -> None:
    """The launcher tells that all ended because one was killed; nobody is left."""
    pids = workers_of(launcher)
    os.kill(pids[victim], signal.SIGKILL)
    _, err = finish(launcher, status)
    assert err.count("error: another worker has ended or cannot be reached") == 1
    assert f"worker {victim}: killed by SIGKILL" in err
    assert "Traceback" not in err
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_killed_worker_ends_all_and_the_run_goes_on_to_what_one_process_gives(tmp_path):
    flags = ["--workers=2", "--save_seconds=0", "--draw"]
    launcher = start(tmp_path / "two", *flags)
    wait_for_line(launcher, "Step 110:")  # so that the checkpoint of step 55 is there
    check_loss(launcher, victim=1, status=2)
    saved = [int(re.findall(r"\d+", p.name)[0]) for p in tmp_path.glob("two/SBN*/checkpoint-*.npz")]
    last = max(saved) + 110
    enough = [f"--training_steps={last}", "--eval_freq=1", "--seed=0"]

    out, err = finish(start(tmp_path / "two", *flags, *enough), 0)
    assert err == ""
    assert f"resuming at step {max(saved)} from" in out
    assert out.count(f"\nStep {last}:") == 1
    one = ["rebar_train.py", f"--hparams={HPARAMS}", "--jit=off", "--eval_samples=2", *enough]
    assert train.main([*one, f"--working_dir={tmp_path / 'one'}"]) == 0

    # Each line is there once, each picture, too; only the chief has written.
    one, two = records_of(tmp_path / "one"), records_of(tmp_path / "two")
    assert [r["step"] for r in two] == [r["step"] for r in one] == [*range(55, last + 1, 55)]
    (folder,) = (tmp_path / "two").glob("SBN*")
    assert len(list(folder.glob("events*"))) == 2
    assert {p.name for p in folder.glob("pictures/*")} == {
        f"step-{step:07d}.png" for step in (last - 55, last)
    }
    # Rounding differs, and sampling takes a rounding error across a threshold now and then.
    assert two[0]["elbo"] == pytest.approx(one[0]["elbo"], rel=1e-4)
    for a, b in zip(one, two, strict=True):
        assert b["elbo"] == pytest.approx(a["elbo"], rel=3e-3), a["step"]
        assert b["log_variance"] == pytest.approx(a["log_variance"], abs=0.05), a["step"]
    assert two[-1]["valid"] == pytest.approx(one[-1]["valid"], rel=0.02)


@pytest.mark.slow
def test_a_chief_that_dies_ends_the_others(tmp_path):
    launcher = start(tmp_path, "--workers=2", "--eval_freq=0")
    wait_for_line(launcher, "Step 110:")
    check_loss(launcher, victim=0, status=128 + signal.SIGKILL)


@pytest.mark.slow
def test_a_signal_to_one_worker_saves_and_ends_all(tmp_path):
    launcher = start(tmp_path, "--workers=2", "--eval_freq=0")
    wait_for_line(launcher, "Step 110:")
    os.kill(workers_of(launcher)[1], signal.SIGTERM)
    out, _ = finish(launcher, 128 + signal.SIGTERM)
    stopped = int(re.search(r"SIGTERM: saved at step (\d+)", out)[1])
    assert list(tmp_path.glob(f"SBN*/checkpoint-{stopped}.npz"))
