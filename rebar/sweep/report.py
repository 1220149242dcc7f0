"""Lines that a sweep prints of its jobs."""

import functools
import signal
from collections.abc import Sequence
from pathlib import Path

from rebar.sweep.job import Job

_TAIL = 12
_STOPPED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


class Report:
    """Counts jobs of a requested length (see `Job.state`); prints their starts and ends."""

    def __init__(self, jobs: Sequence[Job], training_steps: int, epochs: int):
        self._jobs = jobs
        self._length = training_steps, epochs
        self._states = {job: job.state(*self._length) for job in jobs}
        self._failed: dict[Job, str] = {}

    def unfinished(self) -> list[Job]:
        """Return the jobs that are not finished."""
        return [job for job in self._jobs if not self._states[job].finished]

    def counts(self) -> str:
        """Return the numbers of finished, begun, new and failed runs."""
        left = [self._states[job].step for job in self.unfinished()]
        begun, number = sum(step > 0 for step in left), len(self._jobs)
        failed = f", {len(self._failed)} failed" if self._failed else ""
        return (
            f"{number} run{'s' * (number != 1)}: {number - len(left)} finished, {begun} begun, "
            f"{len(left) - begun} not started{failed}"
        )

    def start(self, job: Job) -> None:
        """Report that a job starts or resumes."""
        step = self._states[job].step
        self.line(job, f"resumes at step {step}" if step else "starts")

    def end(self, job: Job, status: int | None = None) -> None:
        """Report the records of a job that has ended; its exit status is None if unknown."""
        state = self._states[job] = job.state(*self._length)
        if status and _signal(status) in _STOPPED:
            self.line(job, f"{describe(status)}; saved: step {state.step}")
        elif state.finished and not status:
            self.line(job, f"finished: step {state.step}, {state.note}")
        else:
            reason = describe(status) if status else f"ended early; {state.note}"
            self._failed[job] = f"{reason}; saved: step {state.step}"
            self.line(job, f"FAILED: {self._failed[job]}; {job.log} ends with")
            for text in tail(job.log):
                say(f"    | {text}")

    def total(self) -> bool:
        """Print the state of the sweep and its failures; return whether all runs are finished."""
        say(self.counts())
        for job, reason in self._failed.items():
            say(f"  failed: {job.label}: {reason}; {job.log}")
        return not self.unfinished()

    def line(self, job: Job, text: str) -> None:
        """Print a line about a job."""
        number, total = self._jobs.index(job) + 1, len(self._jobs)
        say(f"[{number:{len(str(total))}}/{total}] {job.label}  {text}")


def _signal(status: int) -> int:
    return -status if status < 0 else status - 128


def describe(status: int) -> str:
    """Describe an exit status, negative for the signal that killed a process."""
    if _signal(status) not in {*signal.Signals}:
        return f"exit status {status}"
    return f"{'killed' if status < 0 else 'stopped'} by {signal.Signals(_signal(status)).name}"


def tail(log: Path) -> list[str]:
    """Return the last lines of a log that are not empty."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return [line for line in text.splitlines() if line.strip()][-_TAIL:]


say = functools.partial(print, flush=True)
"""Print a line at once."""
