"""One run of a sweep: its training command, its folder, and its state by its own records."""

import dataclasses
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rebar.errors import RebarError
from rebar.hparams import HParams, grammar, run_name
from rebar.runs import checkpoint
from rebar.runs.records import MetricsFile

TRAIN = (sys.executable, "-m", "rebar.cli.train")
"""The train command of this installation."""


class State(NamedTuple):
    """State of a run: whether it has the requested length, its saved steps, and a note.

    The note has its last ELBO and test bound in nats, or the problem with its records.
    """

    finished: bool = False
    step: int = 0
    note: str = "no checkpoint"


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
      folder: folder of the run.
      hparams, seed: identity of the run.
      label: the values that distinguish it from the other jobs.
      arguments: of the train command.
    """

    folder: Path
    hparams: HParams
    seed: int
    label: str
    arguments: tuple[str, ...]

    @property
    def log(self) -> Path:
        """File with the output of all its starts."""
        return self.folder.parent / "logs" / f"{self.folder.name}.log"

    @property
    def command(self) -> tuple[str, ...]:
        """Program and arguments."""
        return (*TRAIN, *self.arguments)

    def record(self) -> dict[str, Any]:
        """Return its entry in the manifest."""
        return {
            "folder": self.folder.name,
            "hparams": self.hparams.format(),
            "seed": self.seed,
            "command": shlex.join(["rebar-train", *self.arguments]),
        }

    def state(self, training_steps: int, epochs: int) -> State:
        """Read the run's records.

        A run is finished if its newest intact checkpoint has these hyperparameters, this seed and
        either the requested steps or the requested epochs (0: no limit), and metrics.jsonl has the
        record of that step.
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
        identity = {"hparams": self.hparams.to_dict(), "seed": self.seed}
        if any(saved.metadata.get(name) != value for name, value in identity.items()):
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
    """Return the jobs of a grid, seed by seed, so that a sweep cut short can compare its points.

    Args:
      points: hyperparameters -> --hparams strings.
      seeds: of each point.
      folder: of the sweep.
      flags: further flags of each run.
    """
    first = next(iter(points)).to_dict()
    names = [n for n in first if any(point.to_dict()[n] != first[n] for point in points)]
    jobs = []
    for seed in seeds:
        for point, strings in points.items():
            label = [f"{n}={grammar.write(getattr(point, n))}" for n in names] + [f"seed={seed}"]
            arguments = [*(f"--hparams={s}" for s in strings), f"--seed={seed}"]
            arguments += [f"--working_dir={folder}", *flags]
            name = run_name(point, seed)
            jobs.append(Job(folder / name, point, seed, " ".join(label), tuple(arguments)))
    return jobs
