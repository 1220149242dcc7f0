"""The pool: how many at once, what a failure and a signal do, nothing left behind."""

import os
import signal
import sys
import threading
import time

import pytest

from rebar.sweep import pool, process
from rebar.sweep.process import Job

# Says when it begins and ends; on the first SIGTERM or SIGINT it "saves" and ends with 128 + n.
CODE = """
import os, signal, sys, time
def end(number, frame):
    print("saved on", number, flush=True)
    sys.exit(128 + number)
if "stubborn" in sys.argv:
    end = signal.SIG_IGN
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, end)
print("begin", time.monotonic(), flush=True)
time.sleep(float(sys.argv[1]))
print("end", time.monotonic(), flush=True)
sys.exit(int(sys.argv[2]))
"""


class Recorder:
    def __init__(self):
        self.started, self.ended = [], []

    def on_start(self, job):
        self.started.append(job.name)

    def on_end(self, end):
        self.ended.append(end)


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
    recorder = Recorder()
    received = pool.run_all(jobs, workers, recorder.on_start, recorder.on_end)
    return recorder, received


def send_when_begun(jobs, *signals, pause=0.3):
    """Send this process signals once the first jobs have begun."""

    def send():
        while not all(process.tail(job.log) for job in jobs):
            time.sleep(0.02)
        for number in signals:
            os.kill(os.getpid(), number)
            time.sleep(pause)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def spans(jobs):
    return [tuple(float(line.split()[1]) for line in process.tail(job.log)) for job in jobs]


def test_two_at_a_time_in_order(jobs):
    todo = jobs(*[(0.3, 0)] * 5)
    recorder, received = run(todo, 2)
    assert received is None
    assert recorder.started == ["j0", "j1", "j2", "j3", "j4"]
    assert sorted(end.job.name for end in recorder.ended) == recorder.started
    assert all(end.status == 0 and not end.stopped for end in recorder.ended)
    times = spans(todo)
    together = [sum(b <= begin < e for b, e in times) for begin, _ in times]
    assert max(together) == 2


def test_a_failure_does_not_stop_the_rest(jobs):
    recorder, received = run(jobs((0, 0), (0, 7), (0, 0)), 1)
    assert received is None
    assert [end.status for end in recorder.ended] == [0, 7, 0]


def test_a_job_that_is_killed(jobs):
    todo = jobs((60, 0), (0, 0))

    recorder = Recorder()

    def kill():
        while not process.tail(todo[0].log):
            time.sleep(0.02)
        children = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
        with open(children) as file:
            for pid in map(int, file.read().split()):
                with open(f"/proc/{pid}/cmdline") as command:
                    if "saved on" in command.read():
                        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    assert pool.run_all(todo, 1, recorder.on_start, recorder.on_end) is None
    thread.join()
    assert [end.status for end in recorder.ended] == [-signal.SIGKILL, 0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on(jobs, number):
    todo = jobs((60, 0), (60, 0), (60, 0))
    thread = send_when_begun(todo[:2], number)
    recorder, received = run(todo, 2)
    thread.join()
    assert received == number
    assert recorder.started == ["j0", "j1"]
    assert [(end.status, end.stopped) for end in recorder.ended] == [(128 + number, True)] * 2
    for job in todo[:2]:
        assert process.tail(job.log)[-1] == f"saved on {int(number)}"


def test_a_second_ctrl_c_ends_what_does_not_listen(jobs, monkeypatch):
    monkeypatch.setattr(pool, "_PATIENCE_SECONDS", 0.3)
    todo = jobs((60, 0, "stubborn"), (60, 0))
    thread = send_when_begun(todo, signal.SIGINT, signal.SIGINT)
    recorder, received = run(todo, 2)
    thread.join()
    assert received == signal.SIGINT
    statuses = {end.job.name: end.status for end in recorder.ended}
    assert statuses == {"j0": -signal.SIGKILL, "j1": 130}


def test_an_exception_leaves_no_process(jobs):
    todo = jobs((60, 0), (0, 0))
    ended = []

    def on_end(end):
        ended.append(end.status)
        if len(ended) == 1:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        pool.run_all(todo, 2, lambda job: None, on_end)
    assert ended in ([0, 143], [0, -signal.SIGTERM])


def test_log_start(jobs):
    todo = jobs((0, 0))
    todo[0].log.write_text("earlier\n")
    recorder, _ = run(todo, 1)
    assert recorder.ended[0].log_start == len("earlier\n")
