"""Runs on this machine, a few at a time."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rebar.sweep import process
from rebar.sweep.process import Job
from rebar.training.interrupt import Interrupt

_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 10.0


class Ended(NamedTuple):
    """The end of a job.

    Attributes:
      job: which one.
      status: exit status; negative: the signal that killed it.
      seconds: duration.
      log_start: bytes that its log had before.
      stopped: whether it was told to end.
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
) -> int | None:
    """Run jobs, at most `workers` at once, in their order.

    The first SIGINT or SIGTERM is passed on to the running jobs, which save and end; no other is
    started. A further Ctrl-C is passed on as well, and what is left ten seconds later is killed.

    Args:
      jobs: what to run.
      workers: at least 1.
      on_start, on_end: called for each job.

    Returns:
      None, or the number of the signal.
    """
    waiting: list[Job] = list(reversed(jobs))
    running: list[_Running] = []

    def stop(number):
        waiting.clear()
        for one in running:
            one.process.send_signal(number)

    def reap(stopped):
        for one in [one for one in running if one.process.poll() is not None]:
            running.remove(one)
            seconds = time.monotonic() - one.started
            on_end(Ended(one.job, one.process.returncode, seconds, one.log_start, stopped))

    with Interrupt() as interrupt:
        passed = None
        try:
            while waiting or running:
                if interrupt.requested != passed:
                    passed = interrupt.requested
                    stop(passed)
                while waiting and len(running) < workers:
                    job = waiting.pop()
                    log_start = process.size(job.log)
                    on_start(job)
                    child = process.start(job)
                    running.append(_Running(job, child, time.monotonic(), log_start))
                reap(passed is not None)
                time.sleep(_POLL_SECONDS if running else 0)
        except KeyboardInterrupt:
            stop(signal.SIGINT)
        finally:
            # After an exception or a second Ctrl-C: leave no process behind.
            stop(signal.SIGTERM)
            last = time.monotonic() + _PATIENCE_SECONDS
            while running and time.monotonic() < last:
                reap(True)
                time.sleep(_POLL_SECONDS)
            for one in running:
                one.process.kill()
                one.process.wait()
            reap(True)
    return interrupt.requested
