"""A run's process: its log, and that it does not outlive who started it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rebar.errors import RebarError
from rebar.sweep import process
from rebar.sweep.process import Job

ROOT = Path(__file__).parents[2]


def python(code, log):
    return Job("one", (sys.executable, "-c", code), log)


def wait_for(condition, seconds=20):
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_output_is_added_to_the_log(tmp_path):
    log = tmp_path / "logs" / "one.log"
    for text in ("first", "second"):
        code = f"import sys; print({text!r}); print('and error', file=sys.stderr); sys.exit(4)"
        assert process.start(python(code, log)).wait() == 4
    assert log.read_text() == "first\nand error\nsecond\nand error\n"
    assert process.tail(log, len("first\nand error\n")) == ["second", "and error"]


def test_environment(tmp_path):
    log = tmp_path / "one.log"
    code = "import os; print(os.environ['COLOR'], os.getsid(0) == os.getpid())"
    assert process.start(python(code, log), {"COLOR": "blue"}).wait() == 0
    assert log.read_text() == "blue True\n"


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2"])
def test_a_clusters_announcement_does_not_kill(tmp_path, name):
    log = tmp_path / "one.log"
    code = f"import os, signal; os.kill(os.getpid(), signal.{name}); print('alive')"
    assert process.start(python(code, log)).wait() == 0
    assert log.read_text() == "alive\n"


def test_killed_starters_take_their_runs_along(tmp_path):
    """The run gets SIGTERM, on which a real one saves."""
    log = tmp_path / "one.log"
    code = (
        "import signal, time\n"
        "def end(*_): print('told', flush=True); raise SystemExit\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(60)"
    )
    starter = (
        "import pathlib, sys, time\n"
        "from rebar.sweep import process\n"
        f"job = process.Job('one', (sys.executable, '-c', {code!r}), pathlib.Path({str(log)!r}))\n"
        "process.start(job); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", starter], cwd=ROOT)
    try:
        assert wait_for(lambda: process.size(log) > 0)
    finally:
        parent.kill()
        parent.wait()
    assert wait_for(lambda: log.read_text() == "up\ntold\n")


def test_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(RebarError, match=r"cannot write .*one\.log"):
        process.start(python("", tmp_path / "logs" / "one.log"))


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
def test_ending(status, words):
    assert process.ending(status) == words


def test_tail_of_a_long_or_missing_log(tmp_path):
    log = tmp_path / "one.log"
    assert process.tail(log) == []
    log.write_text("".join(f"line {n}\n\n" for n in range(100_000)))
    assert process.tail(log) == [f"line {n}" for n in range(99_988, 100_000)]
