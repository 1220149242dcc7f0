"""State of a run by its own records, checkpoint and metrics.jsonl, and the lines of a sweep."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rebar.errors import RebarError
from rebar.runs import checkpoint
from rebar.runs.records import MetricsFile
from rebar.sweep import process
from rebar.sweep.manifest import Planned


class Length(NamedTuple):
    """Length of training, whichever comes first: steps, epochs (0: no limit)."""

    training_steps: int
    epochs: int


class Outcome(NamedTuple):
    """State of a run.

    Attributes:
      finished: whether it has done all that was asked for.
      step: steps in its checkpoint; 0 before the first.
      elbo: nats, mean over the last recorded epoch; None without.
      test: nats, the last test bound; None without.
      trouble: what is wrong with its records; "" if nothing is.
    """

    finished: bool = False
    step: int = 0
    elbo: float | None = None
    test: float | None = None
    trouble: str = ""


def look(folder: Path, identity: dict[str, Any], length: Length) -> Outcome:
    """Read a run's records.

    A run is finished when its newest intact checkpoint has the same hyperparameters and seed and
    the steps that were asked for, and metrics.jsonl has the record of that step.

    Args:
      folder: of the run; need not exist.
      identity: {"hparams": ..., "seed": ...} that the checkpoint must have.
      length: what was asked for.
    """
    try:
        with warnings.catch_warnings():
            # The run itself reports damaged checkpoints when it resumes.
            warnings.simplefilter("ignore", RuntimeWarning)
            found = checkpoint.latest(folder)
        if found is None:
            return Outcome()
        if any(found.metadata.get(name) != value for name, value in identity.items()):
            return Outcome(trouble=f"{found.path} is of another run")
        records = MetricsFile(folder / "metrics.jsonl").read()
    except RebarError as error:
        return Outcome(trouble=str(error))
    known = [record for record in records if record["step"] <= found.step]
    last = known[-1] if known else {}
    enough = found.step >= length.training_steps or 0 < length.epochs <= (
        _number(last, "epoch") or 0
    )
    tests = [record["test"] for record in known if _number(record, "test") is not None]
    return Outcome(
        finished=last.get("step") == found.step and enough,
        step=found.step,
        elbo=_number(last, "elbo"),
        test=tests[-1] if tests else None,
    )


def _number(record: dict[str, Any], name: str) -> float | None:
    value = record.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


class Report:
    """Counts the runs of a sweep, and prints their starts and ends.

    Args:
      runs: of the sweep.
      sweep_dir: its folder.
      length: what was asked of each run.
    """

    def __init__(self, runs: Sequence[Planned], sweep_dir: Path, length: Length):
        self._runs = {run.folder: run for run in runs}
        self._dir = sweep_dir
        self._length = length
        self._outcomes = {name: self._look(name) for name in self._runs}
        self._failed: dict[str, str] = {}

    def unfinished(self) -> list[Planned]:
        """The runs that are not finished by their own records."""
        return [run for name, run in self._runs.items() if not self._outcomes[name].finished]

    def plan(self) -> str:
        """Numbers of finished, started and new runs."""
        outcomes = self._outcomes.values()
        finished = sum(outcome.finished for outcome in outcomes)
        begun = sum(outcome.step > 0 and not outcome.finished for outcome in outcomes)
        new = len(self._runs) - finished - begun
        return f"{self._count()}: {finished} finished, {begun} begun, {new} to start"

    def start(self, name: str) -> None:
        """A run starts or resumes."""
        step = self._outcomes[name].step
        self.line(name, f"resumes at step {step}" if step else "starts")

    def end(
        self,
        name: str,
        ending: str = "",
        seconds: float | None = None,
        log_start: int = 0,
        stopped: bool = False,
    ) -> None:
        """A run has ended: look at its records.

        Args:
          name: its folder.
          ending: how its process ended, "" for status 0, or where that is unknown.
          seconds: duration, where known.
          log_start: byte of its log at which this attempt begins.
          stopped: whether a signal was passed on to it.
        """
        outcome = self._outcomes[name] = self._look(name)
        took = "" if seconds is None else f", {seconds:.0f} s"
        if stopped and ending:
            self.line(name, f"stopped; saved: step {outcome.step}")
        elif outcome.finished and not ending:
            test = "" if outcome.test is None else f", test bound {outcome.test:.2f}"
            elbo = "not finite" if outcome.elbo is None else f"{outcome.elbo:.2f}"
            self.line(name, f"finished: step {outcome.step}, ELBO {elbo}{test}{took}")
        else:
            status = "ended with status 0, but " if seconds is not None else ""
            reason = ending or outcome.trouble or f"{status}its records are not complete"
            self._failed[name] = f"{reason}; saved: step {outcome.step}"
            log = self._dir / self._runs[name].log
            self.line(name, f"FAILED: {self._failed[name]}{took}; {log} ends with")
            for text in process.tail(log, log_start):
                say(f"    | {text}")

    def total(self) -> bool:
        """Print the state of the sweep; returns whether all runs are finished."""
        left = self.unfinished()
        say(
            f"{self._count()}: {len(self._runs) - len(left)} finished, "
            f"{len(self._failed)} failed, {len(left) - len(self._failed)} not finished yet"
        )
        for name, reason in self._failed.items():
            say(f"  failed: {self._runs[name].label}: {reason}; {self._runs[name].log}")
        return not left

    def line(self, name: str, text: str) -> None:
        """Print a line about a run."""
        number, total = list(self._runs).index(name) + 1, len(self._runs)
        say(f"[{number:{len(str(total))}}/{total}] {self._runs[name].label}  {text}")

    def _look(self, name: str) -> Outcome:
        return look(self._dir / name, self._runs[name].identity, self._length)

    def _count(self):
        return f"{len(self._runs)} run{'s' * (len(self._runs) != 1)}"


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
