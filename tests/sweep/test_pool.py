"""The pool: number of simultaneous jobs, logs, failures, signals, no process left behind."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from rebar.errors import RebarError
from rebar.sweep import pool
from rebar.sweep.job import describe
from tests.sweep.stub_train import tail

# Says when it begins and ends; on the first SIGTERM or SIGINT it "saves" and ends with 128 + n.
CODE = """
import os, signal, sys, time
def end(number, frame):
    print("saved on", number, flush=True)
    sys.exit(128 + number)
if "stubborn" in sys.argv:
    end = signal.SIG_IGN
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, end)
print("begin", time.monotonic(), flush=True)
time.sleep(float(sys.argv[1]))
print("end", time.monotonic(), flush=True)
sys.exit(int(sys.argv[2]))
"""


class Job(NamedTuple):
    """The part of a job that the pool uses."""

    name: str
    command: tuple[str, ...]
    log: Path


@pytest.fixture
def jobs(tmp_path):
    def jobs(*rows):
        return [
            Job(f"j{n}", (sys.executable, "-c", CODE, *map(str, row)), tmp_path / f"j{n}.log")
            for n, row in enumerate(rows)
        ]

    return jobs


@pytest.fixture(autouse=True)
def default_handlers():
    """Nothing depends on how the tests were started."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def run(jobs, workers):
    """Run jobs; return the started names, name -> status, and the signal."""
    started, ended = [], {}
    received = pool.run_all(
        jobs,
        workers,
        lambda job: started.append(job.name),
        lambda job, status: ended.update({job.name: status}),
    )
    return started, ended, received


def send_when_begun(jobs, *signals, pause=0.3):
    """Send this process signals once the first jobs have begun."""

    def send():
        while not all(tail(job.log) for job in jobs):
            time.sleep(0.02)
        for number in signals:
            os.kill(os.getpid(), number)
            time.sleep(pause)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_two_at_a_time_in_order(jobs):
    running, started = [0], []

    def start(job):
        started.append(job.name)
        running.append(running[-1] + 1)

    received = pool.run_all(
        jobs(*[(0.3, 0)] * 5), 2, start, lambda job, status: running.append(running[-1] - 1)
    )
    assert received is None
    assert started == ["j0", "j1", "j2", "j3", "j4"]
    assert max(running) == 2
    assert running[-1] == 0


def test_a_failure_does_not_stop_the_others(jobs):
    todo = jobs((0, 0), (0, 7), (0, 0))
    todo[1] = Job("j1", ("sh", "-c", "kill -KILL $$"), todo[1].log)
    todo.append(jobs((0, 7))[0]._replace(name="j3"))
    _, ended, received = run(todo, 1)
    assert received is None
    assert ended == {"j0": 0, "j1": -signal.SIGKILL, "j2": 0, "j3": 7}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on(jobs, number):
    todo = jobs((60, 0), (60, 0), (60, 0))
    thread = send_when_begun(todo[:2], number)
    started, ended, received = run(todo, 2)
    thread.join()
    assert received == number
    assert started == ["j0", "j1"]
    assert ended == dict.fromkeys(started, 128 + number)
    for job in todo[:2]:
        assert tail(job.log)[-1] == f"saved on {int(number)}"


def test_a_second_ctrl_c_kills(jobs):
    todo = jobs((60, 0, "stubborn"), (60, 0))
    thread = send_when_begun(todo, signal.SIGINT, signal.SIGINT)
    began = time.monotonic()
    _, ended, received = run(todo, 2)
    thread.join()
    assert received == signal.SIGINT
    assert ended == {"j1": 130}
    assert time.monotonic() - began < 30


def test_after_an_exception_the_other_jobs_save(jobs):
    todo = jobs((60, 0), (0, 0))

    def on_end(job, status):
        while not tail(todo[0].log):
            time.sleep(0.02)
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        pool.run_all(todo, 2, lambda job: None, on_end)
    assert tail(todo[0].log)[-1] == f"saved on {int(signal.SIGTERM)}"


def test_output_is_appended_to_the_log(tmp_path):
    log = tmp_path / "logs" / "one.log"
    for text in ("first", "second"):
        code = f"import sys; print({text!r}); print('error', file=sys.stderr); sys.exit(4)"
        assert pool.start((sys.executable, "-c", code), log).wait() == 4
    assert log.read_text() == "first\nerror\nsecond\nerror\n"


def test_the_announcement_of_a_cluster_does_not_kill(tmp_path):
    log = tmp_path / "one.log"
    code = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print('alive')"
    assert pool.start((sys.executable, "-c", code), log).wait() == 0
    assert log.read_text() == "alive\n"


def test_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(RebarError, match=r"cannot write .*one\.log"):
        pool.start(("true",), tmp_path / "logs" / "one.log")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (2, "exit status 2"),
        (-9, "killed by SIGKILL"),
        (143, "stopped by SIGTERM"),
        (255, "exit status 255"),
        (128, "exit status 128"),
    ],
)
def test_describe(status, words):
    assert describe(status) == words
