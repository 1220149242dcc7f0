"""The lines that a sweep prints: one when a run starts, one when it ends, a sum at the end."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rebar.sweep import process
from rebar.sweep.manifest import Planned
from rebar.sweep.outcome import Length, Outcome, look


class Report:
    """Keeps count of a sweep's runs and prints.

    Args:
      runs: of the sweep.
      sweep_dir: its folder.
      length: what was asked of each run.
      say: prints a line.
    """

    def __init__(
        self,
        runs: Sequence[Planned],
        sweep_dir: Path,
        length: Length,
        say: Callable[[str], None],
    ):
        self._runs = {run.folder: run for run in runs}
        self._number = {run.folder: number for number, run in enumerate(runs, start=1)}
        self._dir = sweep_dir
        self._length = length
        self._say = say
        self._outcomes = {name: self._look(name) for name in self._runs}
        self._failed: dict[str, str] = {}

    def unfinished(self) -> list[Planned]:
        """The runs that are not finished by their own records."""
        return [run for name, run in self._runs.items() if not self._outcomes[name].finished]

    def plan(self) -> str:
        """How many runs there are, and how far they have come."""
        outcomes = self._outcomes.values()
        finished = sum(outcome.finished for outcome in outcomes)
        begun = sum(outcome.step > 0 and not outcome.finished for outcome in outcomes)
        rest = len(self._runs) - finished - begun
        return f"{_count(len(self._runs))}: {finished} finished, {begun} begun, {rest} to start"

    def start(self, name: str) -> None:
        """A run starts or goes on."""
        step = self._outcomes[name].step
        self._line(name, f"goes on at step {step}" if step else "starts")

    def queued(self, name: str, job: str, before: bool) -> None:
        """A run is in a cluster's queue, since now or `before`."""
        self._line(name, f"{'is' if before else 'queued as'} job {job}{' already' * before}")

    def end(self, name: str, ending: str = "", seconds: float | None = None, start: int = 0):
        """A run has ended: look at its records.

        Args:
          name: its folder.
          ending: how its process ended, "" for status 0, or where that is not known.
          seconds: that it took, where known.
          start: byte of its log at which this attempt begins.
        """
        outcome = self._outcomes[name] = self._look(name)
        took = "" if seconds is None else f", {seconds:.0f} s"
        if outcome.finished and not ending:
            self._line(name, f"finished: {_numbers(outcome)}{took}")
            return
        known = "ended with status 0, but " if seconds is not None else ""
        reason = ending or outcome.trouble or f"{known}its records are not complete"
        self._failed[name] = f"{reason}; saved: step {outcome.step}"
        log = self._dir / self._runs[name].log
        self._line(name, f"FAILED: {self._failed[name]}{took}; {log} ends with")
        for line in process.tail(log, start):
            self._say(f"    | {line}")

    def stopped(self, name: str) -> None:
        """A run was ended by a signal that the sweep has passed on."""
        outcome = self._outcomes[name] = self._look(name)
        self._line(name, f"stopped; saved: step {outcome.step}")

    def total(self) -> bool:
        """Print how it stands; returns whether all runs are finished."""
        left = self.unfinished()
        self._say(
            f"{_count(len(self._runs))}: {len(self._runs) - len(left)} finished, "
            f"{len(self._failed)} failed, {len(left) - len(self._failed)} not finished yet"
        )
        for name, reason in self._failed.items():
            self._say(f"  failed: {self._runs[name].label}: {reason}; {self._runs[name].log}")
        return not left

    def _look(self, name: str) -> Outcome:
        return look(self._dir / name, self._runs[name].identity, self._length)

    def _line(self, name: str, text: str) -> None:
        width = len(str(len(self._runs)))
        label = self._runs[name].label
        self._say(f"[{self._number[name]:{width}}/{len(self._runs)}] {label}  {text}")


def _numbers(outcome: Outcome) -> str:
    elbo = "ELBO not finite" if outcome.elbo is None else f"ELBO {outcome.elbo:.2f}"
    test = "" if outcome.test is None else f", test bound {outcome.test:.2f}"
    return f"step {outcome.step}, {elbo}{test}"


def _count(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"
