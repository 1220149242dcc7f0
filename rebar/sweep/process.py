"""A run as a process: its output goes to a log, and it does not outlive its starter."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rebar.runs.files import cannot_write

_TAIL = 12
_TAIL_BYTES = 20_000
_PR_SET_PDEATHSIG = 1


class Job(NamedTuple):
    """What to start.

    Attributes:
      name: of the run.
      command: program and arguments; the program by its full path.
      log: file to which its output is appended.
    """

    name: str
    command: tuple[str, ...]
    log: Path


def train_command(arguments: Sequence[str]) -> tuple[str, ...]:
    """The train command of this installation."""
    return (sys.executable, "-m", "rebar.cli.train", *arguments)


def start(job: Job, environment: Mapping[str, str] | None = None) -> subprocess.Popen:
    """Start a job in a session of its own, so that a Ctrl-C at the terminal does not reach it.

    When this process is killed, the job gets SIGTERM, on which a run saves and ends.

    Args:
      job: what to start.
      environment: variables added to those of this process.

    Raises:
      RebarError: the log cannot be written.
    """
    prctl = None
    with contextlib.suppress(OSError, AttributeError):
        prctl = ctypes.CDLL(None).prctl

    def prepare():
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # Clusters announce the end of a job with these to all of its processes.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "ab") as log:
            return subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                start_new_session=True,
                preexec_fn=prepare,
            )
    except OSError as error:
        raise cannot_write(job.log, error) from error


def size(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def tail(path: Path, start: int = 0) -> list[str]:
    """The last lines of a log, of those after byte `start`."""
    if not path.exists():
        return []
    with open(path, "rb") as file:
        file.seek(max(start, size(path) - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return [line for line in text.splitlines() if line.strip()][-_TAIL:]


def ending(status: int) -> str:
    """Meaning of an exit status, negative for the signal that killed a process."""
    number = -status if status < 0 else status - 128
    if number not in {*signal.Signals}:
        return f"exit status {status}"
    return f"{'killed' if status < 0 else 'stopped'} by {signal.Signals(number).name}"
