"""How far a run has come, by its own records: checkpoint and metrics.jsonl, and nothing else.

A run is finished when its newest whole checkpoint is one of the same hyperparameters and seed, has
the steps that were asked for, and metrics.jsonl has the record of that very step.
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

from rebar.errors import RebarError
from rebar.runs import checkpoint
from rebar.runs.records import MetricsFile


class Length(NamedTuple):
    """How long to train, as the train command takes it: to whichever comes first.

    Attributes:
      training_steps: steps in all.
      epochs: epochs in all; 0: no such limit.
    """

    training_steps: int
    epochs: int


class Outcome(NamedTuple):
    """Where a run stands.

    Attributes:
      finished: whether it has done all that was asked for.
      step: steps that a checkpoint holds; 0 before the first.
      elbo: nats, mean over the last recorded epoch; None without.
      test: nats, the last test bound; None without.
      trouble: what is wrong with its records, in words; "" if nothing is.
    """

    finished: bool
    step: int
    elbo: float | None
    test: float | None
    trouble: str


def look(folder: Path, identity: dict[str, Any], length: Length) -> Outcome:
    """Read a run's records.

    Args:
      folder: of the run; need not exist.
      identity: {"hparams": ..., "seed": ...} that the checkpoint must be of.
      length: what was asked for.
    """
    try:
        with warnings.catch_warnings():
            # The run itself tells of damaged checkpoints when it goes on.
            warnings.simplefilter("ignore", RuntimeWarning)
            found = checkpoint.latest(folder)
        if found is None:
            return Outcome(False, 0, None, None, "")
        if any(found.metadata.get(name) != value for name, value in identity.items()):
            return Outcome(False, 0, None, None, f"{found.path} is of another run")
        records = MetricsFile(folder / "metrics.jsonl").read()
    except RebarError as error:
        return Outcome(False, 0, None, None, str(error))
    known = [record for record in records if record["step"] <= found.step]
    last = known[-1] if known else {}
    tests = [number for record in known if (number := _number(record, "test")) is not None]
    whole = last.get("step") == found.step
    epoch = _number(last, "epoch") or 0
    enough = found.step >= length.training_steps or 0 < length.epochs <= epoch
    return Outcome(
        finished=whole and enough,
        step=found.step,
        elbo=_number(last, "elbo"),
        test=tests[-1] if tests else None,
        trouble="",
    )


def _number(record: dict[str, Any], name: str) -> float | None:
    """A number of a record; None where there is none."""
    value = record.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
