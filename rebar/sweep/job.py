"""Runs of a sweep: their commands, folders, states by their own records, and printed lines."""

import dataclasses
import functools
import shlex
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rebar.data.sources import is_file
from rebar.errors import RebarError
from rebar.hparams import HParams, completed, grammar, run_name
from rebar.runs import checkpoint
from rebar.runs.records import MetricsFile

TRAIN = (sys.executable, "-m", "rebar.cli.train")
"""The train command of this installation."""
_STOPPED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE")
say = functools.partial(print, flush=True)


class State(NamedTuple):
    """State of a run; the note has its ELBO and test bound in nats, or what is wrong with it."""

    finished: bool = False
    step: int = 0
    note: str = "no checkpoint"


@dataclasses.dataclass(frozen=True)
class Job:
    """One run: its folder, identity, label among the others, and train command."""

    folder: Path
    hparams: HParams
    seed: int
    label: str
    command: tuple[str, ...]

    @property
    def log(self) -> Path:
        """File with the output of all its starts."""
        return self.folder.parent / "logs" / f"{self.folder.name}.log"

    def record(self) -> dict[str, Any]:
        """Return its entry in the manifest."""
        return {
            "folder": self.folder.name,
            "command": shlex.join(["rebar-train", *self.command[len(TRAIN) :]]),
        }

    def state(self, training_steps: int, epochs: int) -> State:
        """Read the run's records.

        It is finished if its newest intact checkpoint is of this run and of the requested steps or
        epochs (0: no limit), and metrics.jsonl has the record of that step.
        """
        try:
            with warnings.catch_warnings():
                # The run itself reports damaged checkpoints when it resumes.
                warnings.simplefilter("ignore", RuntimeWarning)
                saved = checkpoint.latest(self.folder)
            if saved is None:
                return State()
            records = MetricsFile(self.folder / "metrics.jsonl").read()
        except RebarError as error:
            return State(note=str(error))
        identity = (completed(saved.metadata.get("hparams", {})), saved.metadata.get("seed"))
        if identity != (self.hparams.to_dict(), self.seed):
            return State(note=f"{saved.path} is of another run")
        records = [record for record in records if record["step"] <= saved.step]
        last = records[-1] if records else {"step": None}
        tests = [record["test"] for record in records if record.get("test") is not None]
        if last["step"] != saved.step:
            return State(False, saved.step, "its records are incomplete")
        enough = saved.step >= training_steps or 0 < epochs <= last["epoch"]
        values = {"ELBO": last.get("elbo"), "test bound": tests[-1] if tests else None}
        note = ", ".join(f"{n} {value:.2f}" for n, value in values.items() if value is not None)
        return State(enough, saved.step, note)


def plan(
    points: Mapping[HParams, Sequence[str]], seeds: Sequence[int], folder: Path, flags: list[str]
) -> list[Job]:
    """Return the jobs of a grid, seed by seed, so that a sweep cut short can compare its points."""
    rows = [point.values() for point in points]
    every = dict.fromkeys(name for row in rows for name in row)
    names = [name for name in every if any(row.get(name) != rows[0].get(name) for row in rows)]
    jobs = []
    for seed in seeds:
        for point, strings in points.items():
            pairs = [(n, v) for n, v in point.values().items() if n in names]
            label = [f"{n}={grammar.write(v)}" for n, v in [*pairs, ("seed", seed)]]
            own = [
                *(f"--hparams={s}" for s in strings),
                *[f"--hparams=task={point.task}"] * is_file(point.task),  # absolute
                f"--seed={seed}",
                f"--working_dir={folder}",
            ]
            command, of_run = (*TRAIN, *own, *flags), folder / run_name(point, seed)
            jobs.append(Job(of_run, point, seed, " ".join(label), command))
    return jobs


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
        ending = describe(status) if status else f"ended early; {state.note}"
        if state.finished and not status:
            self.line(job, f"finished: step {state.step}, {state.note}")
        elif ending.endswith(_STOPPED):
            self.line(job, f"{ending}; saved: step {state.step}")
        else:
            self._failed[job] = f"{ending}; saved: step {state.step}"
            self.line(job, f"FAILED: {self._failed[job]}; {job.log} ends with")
            lines = job.log.read_text(errors="replace").splitlines() if job.log.exists() else []
            for text in [line for line in lines if line.strip()][-12:]:
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


def describe(status: int) -> str:
    """Describe an exit status, negative for the signal that killed a process."""
    number = -status if status < 0 else status - 128
    if number not in {*signal.Signals}:
        return f"exit status {status}"
    return f"{'killed' if status < 0 else 'stopped'} by {signal.Signals(number).name}"
