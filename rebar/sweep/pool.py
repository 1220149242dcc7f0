"""Runs on this machine, a few at a time."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rebar.sweep import process
from rebar.sweep.process import Job
from rebar.training.interrupt import Interrupt

_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 10.0


class Ended(NamedTuple):
    """How a job ended.

    Attributes:
      job: which one.
      status: exit status; negative: the signal that killed it.
      seconds: that it took.
      log_start: bytes that its log had before.
      stopped: whether a signal was passed on to it.
    """

    job: Job
    status: int
    seconds: float
    log_start: int
    stopped: bool


class _Running(NamedTuple):
    job: Job
    process: subprocess.Popen
    started: float
    log_start: int


def run_all(
    jobs: Sequence[Job],
    workers: int,
    on_start: Callable[[Job], None],
    on_end: Callable[[Ended], None],
    environment: Mapping[str, str] | None = None,
) -> int | None:
    """Run jobs, at most `workers` at once, in their order.

    The first SIGINT or SIGTERM is passed on to the jobs that run, which save and end; no other is
    started. A further Ctrl-C is passed on as well, and whatever is left ten seconds later is
    killed.

    Args:
      jobs: what to run.
      workers: at least 1.
      on_start, on_end: called for each job.
      environment: variables added for the jobs.

    Returns:
      None, or the number of the signal.
    """
    waiting, running = list(reversed(jobs)), []
    passed = False
    with Interrupt() as interrupt:
        try:
            while waiting or running:
                if interrupt.requested is not None and not passed:
                    passed = True
                    waiting.clear()
                    _send(running, interrupt.requested)
                while waiting and len(running) < workers and interrupt.requested is None:
                    job = waiting.pop()
                    log_start = process.size(job.log)
                    on_start(job)
                    child = process.start(job, environment)
                    running.append(_Running(job, child, time.monotonic(), log_start))
                _reap(running, on_end, passed)
                if running:
                    time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            _send(running, signal.SIGINT)
        finally:
            _end(running, on_end)
    return interrupt.requested


def _reap(running: list[_Running], on_end: Callable[[Ended], None], stopped: bool) -> None:
    """Report those that have ended and take them off the list."""
    for one in list(running):
        status = one.process.poll()
        if status is not None:
            running.remove(one)
            seconds = time.monotonic() - one.started
            on_end(Ended(one.job, status, seconds, one.log_start, stopped))


def _send(running: list[_Running], number: int) -> None:
    for one in running:
        one.process.send_signal(number)


def _end(running: list[_Running], on_end: Callable[[Ended], None]) -> None:
    """Leave no process behind: only after an exception is there any."""
    if not running:
        return
    _send(running, signal.SIGTERM)
    last = time.monotonic() + _PATIENCE_SECONDS
    while running and time.monotonic() < last:
        _reap(running, on_end, True)
        time.sleep(_POLL_SECONDS)
    for one in running:
        one.process.kill()
        one.process.wait()
    _reap(running, on_end, True)
