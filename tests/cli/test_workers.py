"""--workers on this machine: the same lines as one process, and what ends a run."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rebar.cli import train
from rebar.cli.workers import free_ports
from rebar.training.records import parse_log

ROOT = Path(__file__).parents[2]
HPARAMS = "task=digits,model=SBN,n_hidden=4,n_layer=2"
PATIENCE = 150

MIXES = '''
import tensorflow as tf
import rebar
from rebar.estimators.nvil import NVIL


class Mixes(NVIL):
    """Divides by a norm over the rows that it sees."""

    def estimate(self, model, x, noise):
        estimate = super().estimate(model, x, noise)
        rms = tf.sqrt(tf.reduce_mean(tf.square(estimate.objective)))
        seen = [tf.sign(g) / rms for g in estimate.gradients]
        return estimate._replace(gradients=seen)


rebar.register("Mixes", Mixes)
'''


def start(folder, *flags, hparams=HPARAMS, **environment):
    command = [sys.executable, "-m", "rebar.cli.train", f"--hparams={hparams}"]
    folders = [f"--working_dir={folder}", f"--data_dir={folder}"]
    return subprocess.Popen(
        [*command, *folders, "--eval_samples=2", *flags],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", **environment},
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


def test_a_cluster_needs_its_variable(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    arguments = ["rebar_train.py", f"--hparams={HPARAMS}", "--workers=TF_CONFIG"]
    assert train.main([*arguments, f"--working_dir={tmp_path}"]) == 2
    assert "TF_CONFIG, which is not set" in capsys.readouterr().err


@pytest.mark.slow
def test_one_process_then_two_go_on_after_a_signal_to_a_worker(tmp_path):
    whole, _ = finish(start(tmp_path / "one", "--epochs=40", "--jit=off"), 0)
    launcher = start(tmp_path / "two", "--epochs=40", "--workers=2")
    wait_for_line(launcher, "Step 110:")
    os.kill(workers_of(launcher)[1], signal.SIGTERM)
    out, err = finish(launcher, 128 + signal.SIGTERM)
    stopped = int(re.search(r"SIGTERM: saved at step (\d+)", out)[1])
    assert 110 <= stopped < 2200
    out, err = finish(start(tmp_path / "two", "--epochs=40", "--workers=2"), 0)
    assert err == ""
    assert f"resuming at step {stopped} from" in out
    records = [
        [json.loads(line) for line in next((tmp_path / n).glob("SBN*/metrics.jsonl")).open()]
        for n in ("one", "two")
    ]
    assert (
        [r["step"] for r in records[0]]
        == [r["step"] for r in records[1]]
        == [55 * (i + 1) for i in range(40)]
    )
    # Rounding differs, and sampling takes a rounding error across a threshold now and then.
    for one, two in zip(*records, strict=True):
        assert two["elbo"] == pytest.approx(one["elbo"], abs=0.2), one["step"]
        assert two["log_variance"] == pytest.approx(one["log_variance"], abs=0.1)
    assert records[1][0]["elbo"] == pytest.approx(records[0][0]["elbo"], rel=1e-5)
    printed = parse_log(whole)[-1]
    np.testing.assert_allclose(printed["valid"][0], records[1][19]["valid"], atol=20)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_dies_ends_the_others(tmp_path, victim):
    launcher = start(
        tmp_path, "--epochs=100000", "--workers=2", "--eval_freq=0", "--save_seconds=1"
    )
    wait_for_line(launcher, "Step 110:")
    time.sleep(2)
    pids = workers_of(launcher)
    os.kill(pids[victim], signal.SIGKILL)
    began = time.monotonic()
    _, err = finish(launcher, 2 if victim else 128 + signal.SIGKILL)
    assert time.monotonic() - began < 90
    assert "another worker has ended or cannot be reached" in err
    assert f"worker {1}: " in err
    assert list(tmp_path.glob("SBN*/checkpoint-*.npz"))
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
def test_an_estimator_that_mixes_rows_is_refused(tmp_path):
    (tmp_path / "mixes.py").write_text(MIXES)
    hparams = "task=digits,model=Mixes,n_hidden=4"
    process = start(tmp_path, "--epochs=1", "--workers=2", "--plugins=mixes", hparams=hparams)
    _, err = finish(process, 2)
    assert "Mixes gives other gradients when workers share a minibatch" in err


@pytest.mark.slow
def test_workers_that_do_not_share_a_folder_are_refused(tmp_path):
    finish(start(tmp_path / "0", "--training_steps=10"), 0)
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []
    for i in range(2):
        task = {"type": "worker", "index": i}
        text = json.dumps({"cluster": {"worker": addresses}, "task": task})
        flags = ["--training_steps=20", "--workers=TF_CONFIG"]
        processes.append(start(tmp_path / str(i), *flags, TF_CONFIG=text))
    for process in processes:
        _, err = finish(process, 2)
        assert "workers are at different steps: 10, 0" in err
