"""A run as a process: its output goes to a log, and it does not outlive who started it."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rebar.runs.files import cannot_write
from rebar.sweep import tied

_TAIL = 12
_TAIL_BYTES = 20_000


class Job(NamedTuple):
    """What to start.

    Attributes:
      name: of the run.
      command: program and arguments; the program by its full path.
      log: file to which its output is added.
    """

    name: str
    command: tuple[str, ...]
    log: Path


def train_command(arguments: Sequence[str]) -> tuple[str, ...]:
    """The train command of this installation."""
    return (sys.executable, "-m", "rebar.cli.train", *arguments)


def start(job: Job, environment: Mapping[str, str] | None = None) -> subprocess.Popen:
    """Start a job in a session of its own, so that a Ctrl-C at the terminal does not reach it.

    Args:
      job: what to start.
      environment: variables added to those of this process.

    Raises:
      RebarError: the log cannot be written.
    """
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", tied.__file__, str(os.getpid()), *job.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                start_new_session=True,
            )
    except OSError as error:
        raise cannot_write(job.log, error) from error


def size(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def tail(path: Path, start: int = 0) -> list[str]:
    """The last lines of a log, of those after byte `start`."""
    try:
        with open(path, "rb") as file:
            file.seek(max(start, size(path) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-_TAIL:]


def ending(status: int) -> str:
    """What an exit status means, negative for the signal that killed a process."""
    number = -status if status < 0 else status - 128
    if status < 0 or status > 128:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"killed by {name}" if status < 0 else f"stopped by {name}"
    return f"exit status {status}"
