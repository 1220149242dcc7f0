"""Jobs through submitit, by its local executor."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from rebar.errors import RebarError
from rebar.sweep import cluster
from tests.sweep.stub_train import tail

HAS_SUBMITIT = importlib.util.find_spec("submitit") is not None
needs_submitit = pytest.mark.skipif(
    not HAS_SUBMITIT, reason="submitit is not installed: pip install 'rebar-gradients[cluster]'"
)

# Counts its starts in its log; "saves" on SIGTERM; ends well when started a second time.
CODE = """
import signal, sys, time
def end(number, frame):
    print("saved", flush=True)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, end)
again = "start" in open(sys.argv[1]).read()
print("start", flush=True)
time.sleep(0 if again else 60)
print("done", flush=True)
"""


class Job(NamedTuple):
    """The part of a job that a cluster uses."""

    folder: Path
    command: tuple[str, ...]
    log: Path


def job(name, code, folder, *arguments):
    return Job(folder / name, (sys.executable, "-c", code, *arguments), folder / f"{name}.log")


def run_job(code, folder):
    one = job("one", code, folder)
    return cluster.RunJob(one.command, one.log)


def wait_for(condition, seconds=30):
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited too long")


@pytest.mark.parametrize(
    ("strings", "options"),
    [
        ([], {}),
        (["partition=gpu,timeout_min=60"], {"partition": "gpu", "timeout_min": 60}),
        (["mem_gb=1.5", "exclude=n[1,3-4],exclusive=true"],
         {"mem_gb": 1.5, "exclude": "n[1,3-4]", "exclusive": True}),
        (["comment=a=b", "time=5,", "time=7"], {"comment": "a=b", "time": 7}),
    ],
)  # fmt: skip
def test_options(strings, options):
    assert cluster.parse_options(strings) == options


@pytest.mark.parametrize(
    ("string", "message"),
    [
        ("partition", "'partition'"),
        ("--time=5", "'--time=5'"),
        ("nodes=2", "'nodes=2'"),
        ("tasks_per_node=2", "'tasks_per_node=2'"),
    ],
)
def test_bad_options(string, message):
    with pytest.raises(RebarError, match=message):
        cluster.parse_options([string])


@pytest.mark.skipif(HAS_SUBMITIT, reason="submitit is installed")
def test_without_submitit(tmp_path):
    with pytest.raises(RebarError, match=r"pip install .*\[cluster\]"):
        cluster.Cluster("local", {}, tmp_path)


@needs_submitit
def test_options_that_submitit_refuses(tmp_path):
    for options in ({"color": 1}, {"timeout_min": "long"}):
        with pytest.raises(RebarError, match="--engine=local "):
            cluster.Cluster("local", options, tmp_path)


@needs_submitit
def test_jobs_run_and_fail(tmp_path):
    there = cluster.Cluster("local", {}, tmp_path)
    good, bad = job("good", "print('well')", tmp_path), job("bad", "raise SystemExit(3)", tmp_path)
    queued = {}
    ids = there.submit([good, bad], queued)
    assert list(ids.values()) == [good, bad]
    assert {name: one["id"] for name, one in queued.items()} == dict(
        zip(["good", "bad"], ids, strict=True)
    )
    ended = []
    there.follow(ids, ended.append)
    assert sorted(ended) == [bad, good]
    assert tail(good.log) == ["well"]
    (error,) = (tmp_path / "logs" / "submitit").glob(f"{queued['bad']['id']}_*_log.err")
    assert "exit status 3" in error.read_text()


@needs_submitit
def test_before_the_time_ends_the_run_saves_and_resumes_later(tmp_path):
    """The cluster's SIGUSR2: the job has the run save, and is started again."""
    one = job("one", CODE, tmp_path, str(tmp_path / "one.log"))
    there = cluster.Cluster("local", {}, tmp_path)
    ids = there.submit([one], {})
    wait_for(lambda: tail(one.log) == ["start"])
    (process_id,) = _tasks(int(*ids))
    os.kill(process_id, signal.SIGUSR2)
    there.follow(ids, lambda job: None)
    assert tail(one.log) == ["start", "saved", "start", "done"]


def test_a_job_that_got_sigterm_waits_for_the_cluster(tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(cluster.time, "sleep", slept.append)
    with pytest.raises(RuntimeError, match=r"stopped by SIGTERM; see .*one\.log"):
        run_job("raise SystemExit(143)", tmp_path)()
    assert slept == [cluster._GRACE_SECONDS]


def test_a_run_that_fails_does_not_wait(tmp_path):
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="exit status 3"):
        run_job("raise SystemExit(3)", tmp_path)()
    assert time.monotonic() - began < 20


@needs_submitit
def test_a_signal_ends_the_waiting_not_the_jobs(tmp_path):
    code = "import time; print('start', flush=True); time.sleep(2); print('done')"
    one = job("one", code, tmp_path)
    there = cluster.Cluster("local", {}, tmp_path)
    queued = {}
    ids = there.submit([one], queued)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.7; kill -INT {os.getpid()}"])
    with pytest.raises(KeyboardInterrupt):
        there.follow(ids, lambda job: None)
    signal.signal(signal.SIGINT, previous)
    killer.wait()
    assert there.submit([one], queued) == ids
    wait_for(lambda: tail(one.log)[-1:] == ["done"])
    there.follow(ids, lambda job: None)
    assert tail(one.log) == ["start", "done"]


def test_squeue_is_asked(tmp_path, monkeypatch):
    """A queue that does not answer is no proof that a job has ended."""
    there = object.__new__(cluster.Cluster)
    there._engine = "slurm"
    fake = tmp_path / "squeue"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for answer, alive in [("echo 7_0; echo 8", {"7_0"}), ("exit 1", {"7_0", "7_1"})]:
        fake.write_text(f"#!/bin/sh\n{answer}\n")
        fake.chmod(0o755)
        assert there._alive({"7_0", "7_1"}) == alive


def _tasks(controller: int) -> list[int]:
    """Children of submitit's local controller."""
    with open(f"/proc/{controller}/task/{controller}/children") as file:
        return [int(word) for word in file.read().split()]
