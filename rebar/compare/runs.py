"""One run as it was logged: its settings, its estimators, and a data frame of its values."""

import dataclasses
import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rebar import registry
from rebar.data.sources import TASKS
from rebar.errors import RebarError
from rebar.hparams import HParams, grammar

_NO_LIMIT = 2_000_000
"""Default of --training_steps, as in 2017: not a length that a user chose."""

_MOST = 1e150
"""Numbers from here on have no finite square; they count as infinite."""

_USUAL = ("elbo", "variance", "valid", "test", "estimator_variance/total")
"""Quantities of which non-finite values are reported."""


_NOTHING = pd.Series(dtype=float, index=pd.Index([], dtype=int))


class Facts(NamedTuple):
    """Properties of an estimator in a run; None where unknown.

    Attributes:
      unbiased: whether its gradient is unbiased for its objective.
      evaluations: evaluations of f per training step.
    """

    unbiased: bool | None = None
    evaluations: float | None = None


@dataclasses.dataclass(eq=False)
class Run:
    """What is known about a run.

    Attributes:
      path: folder or file, as in messages.
      origin: "folder", "stdout", or "2017" for captured output of the 2017 script.
      hparams: all hyperparameters, with defaults; {} where unknown.
      about: the other fields of hparams.json.
      seed: None where unknown.
      values: data frame with columns estimator, step, quantity, value; sorted by step.
      tracked: whether the variances of several methods were recorded.
      label: of the estimator that trains the model; the path where it is unknown.
      notes: what is unusual about it.
    """

    path: str
    origin: str
    hparams: dict[str, Any]
    about: dict[str, Any]
    seed: int | None
    values: pd.DataFrame
    tracked: bool
    label: str
    notes: list[str]

    @functools.cached_property
    def steps(self) -> np.ndarray:
        """Steps of its records."""
        return self.values.step.unique()

    @property
    def last(self) -> int:
        """Step of its last record."""
        return int(self.steps[-1])

    @property
    def labels(self) -> list[str]:
        """Labels of the methods whose variances it has, in the order of `track`."""
        if not self.tracked:
            return [self.label]
        logged = self.values[self.values.quantity == "variance"].estimator.unique()
        order = list(self.about.get("estimators", ()))
        return sorted(logged, key=lambda label: order.index(label) if label in order else -1)

    def facts(self, label: str) -> Facts:
        """Facts of an estimator: as recorded, or for output of the 2017 script derived."""
        known = _derive(json.dumps(self.hparams)) if self.needs_tensorflow else self.about
        return known.get("estimators", {}).get(label, Facts())

    @property
    def needs_tensorflow(self) -> bool:
        """Whether `facts` must build the estimators."""
        return bool(self.hparams) and "estimators" not in self.about

    @property
    def planned(self) -> int | None:
        """Steps that it was started for; None if unknown or unlimited."""
        schedule = self.about.get("schedule", {})
        steps = schedule.get("training_steps") or _NO_LIMIT
        epochs = self.series("epoch")
        if schedule.get("epochs") and len(epochs) and epochs.iloc[0] > 0:
            steps_per_epoch = epochs.index[0] / epochs.iloc[0]
            steps = min(steps, round(schedule["epochs"] * steps_per_epoch))
        return None if steps >= _NO_LIMIT else steps

    @property
    def replicate(self) -> tuple:
        """Identity within a line: two logs that share it are of one run."""
        return (self.path,) if self.seed is None else (self.seed, self.hparams.get("trial"))

    def effective(self, name: str) -> str:
        """hparams.effective_conditional ("" for tasks that are not) or effective_coupling."""
        task = TASKS.get(self.hparams["task"])
        if name == "conditional" and not (task and task.conditional):
            return ""
        names = ("n_layer", "legacy2017", name)
        hparams = HParams(**{n: self.hparams[n] for n in names})
        return self.about.get(name) or getattr(hparams, f"effective_{name}")

    @property
    def eval_samples(self) -> int | None:
        """Samples of the evaluated bound."""
        found = self.series("eval_samples")
        recorded = self.about.get("schedule", {}).get("eval_samples")
        return int(found.iloc[-1]) if len(found) else recorded

    @property
    def seconds_per_step(self) -> float:
        """Median over records, without the first, which includes compilation; NaN without any."""
        return (self.series("seconds") / pd.Series(self.steps, self.steps).diff()).median()

    @property
    def diverged(self) -> bool:
        """Whether its ELBO is not finite somewhere."""
        return bool(self.series("elbo").isna().any())

    def nonfinite(self) -> list[str]:
        """One sentence per usual quantity that is not finite somewhere."""
        bad = self.values[self.values.value.isna() & self.values.quantity.isin(_USUAL)]
        groups = bad.groupby(["quantity", "estimator"], sort=False).step
        return [
            f"{quantity}{f' of {estimator}' if self.tracked else ''} is not finite at step "
            + ", ".join(map(str, steps[:5]))
            + (f" and {len(steps) - 5} more" if len(steps) > 5 else "")
            for (quantity, estimator), steps in groups
        ]

    def series(self, quantity: str, label: str | None = None) -> pd.Series:
        """Values of a quantity by step, NaN where they were not finite.

        Args:
          quantity: see `rebar.compare.read`.
          label: of an estimator; by default the one that trains.
        """
        return self._series.get((quantity, label or self.label), _NOTHING)

    @functools.cached_property
    def _series(self):
        groups = self.values.set_index("step").groupby(["quantity", "estimator"]).value
        return dict(iter(groups))

    def equals(self, other: "Run") -> bool:
        """Whether two logs of a run are the same."""
        known = [(run.path, run.hparams, run.about) for run in (self, other)]
        return known[0] == known[1] and self.values.equals(other.values)

    def x(self, kind: str, evaluations: float | None = None) -> pd.Series | None:
        """Position on the horizontal axis by step; None if the log does not have it.

        Args:
          kind: one of `rebar.compare.X`.
          evaluations: of f per step.
        """
        steps = pd.Series(self.steps.astype(float), self.steps)
        if kind == "steps":
            return steps
        if kind == "evaluations":
            return steps * evaluations if evaluations else None
        found = self.series("epoch" if kind == "epochs" else "seconds").reindex(self.steps)
        if found.isna().any():
            return None
        return found if kind == "epochs" else found.cumsum()


def make_run(
    path: str,
    origin: str,
    hparams: Mapping[str, Any],
    about: Mapping[str, Any],
    seed: int | None,
    records: Sequence[Mapping[str, Any]],
    notes: Iterable[str] = (),
) -> Run:
    """A run from what was logged.

    Args:
      path, origin, seed, notes: see `Run`.
      hparams, about: as in hparams.json; {} where unknown.
      records: as in metrics.jsonl; of two records of one step the later one counts.

    Raises:
      RebarError: they are not what a run logs.
    """
    try:
        if hparams:
            known = {n: hparams.get(n, default) for n, default in HParams().to_dict().items()}
            typed = {n: grammar.typed(known[n], v) for n, v in HParams().values().items()}
            hparams = {**hparams, **{n: known[n] for n in typed}}
            _check_text(*hparams, hparams["model"], hparams["task"], *typed["track"])
        about = _typed(about)
        tracked = any(isinstance(record.get("log_variance"), Mapping) for record in records)
        model = hparams.get("model", path)
        label = about.get("label") or (
            registry.entry(model).label if model in registry.names() else model
        )
        if tracked and hparams:
            label = hparams["follow"]
        rows = [row for record in records for row in _rows(record, label)]
        values = pd.DataFrame(rows, columns=["estimator", "step", "quantity", "value"])
        keys = ["estimator", "step", "quantity"]
        values = values.drop_duplicates(keys, keep="last").sort_values("step", kind="stable")
        seed = seed if type(seed) is int else None
        return Run(path, origin, hparams, about, seed, values, tracked, label, list(notes))
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise RebarError(f"not the log of a run: {error}") from error


def _typed(about):
    """The fields of hparams.json that are used here. Raises ValueError or TypeError."""
    about = {name: value for name, value in about.items() if value is not None}
    outside = sorted(about.get("environment", {}).items())
    about["environment"] = ", ".join(f"{name}={value}" for name, value in outside) or "default"
    names = ("label", "network", "coupling", "data", "environment")
    _check_text(*(about.get(name, "-") for name in names))
    if "estimators" in about:
        about["estimators"] = {
            label: Facts(facts.get("unbiased"), facts.get("evaluations"))
            for label, facts in about["estimators"].items()
        }
        _check_text(*about["estimators"])
    for name in ("training_steps", "epochs", "eval_samples"):
        if not isinstance(about.get("schedule", {}).get(name, 0), int | None):
            raise ValueError(f"schedule: {name} is not a whole number")
    return about


def _check_text(*texts):
    for text in texts:
        if not isinstance(text, str) or not text or not text.isprintable():
            raise ValueError(f"{text!r:.99} is not a name")


def _rows(record, label) -> Iterator[tuple]:
    """(estimator, step, quantity, value) of a record's numbers."""
    for name, value in record.items():
        found: dict[tuple, Any] = {}
        if name in ("log_variance", "log_variance_q"):
            logs = value if isinstance(value, Mapping) else {label: value}
            quantity = name.removeprefix("log_")
            found = {(e, quantity): _exp(v) for e, v in logs.items()}
        elif name == "estimator_variance":
            found = {
                (estimator, f"{name}/{part}"): _number(number)
                for estimator, table in (value or {}).items()
                for part, number in table.items()
                if not isinstance(number, Mapping)
            }
        elif name != "step" and not isinstance(value, bool | str | list | Mapping):
            found = {(label, name): _number(value)}
        for (estimator, quantity), number in found.items():
            _check_text(*({estimator, quantity} - {label}))
            yield estimator, record["step"], quantity, number


def _exp(log) -> float:
    return _number(math.exp(min(_number(log), 700)))


def _number(value) -> float:
    """A number, NaN if it is not finite."""
    number = math.nan if value is None else float(value)
    return number if abs(number) < _MOST else math.nan


@functools.cache
def _derive(hparams: str) -> dict[str, dict[str, Facts]]:
    """As hparams.json has it under "estimators", from a tiny model of the same depth.

    Only this imports TensorFlow.
    """
    from rebar import factory

    known = {n: v for n, v in json.loads(hparams).items() if n in HParams().values()}
    try:
        settings = HParams.from_dict(known | {"n_hidden": 2, "n_input": 0})
        conditional = TASKS[settings.task].conditional
        learner = factory.make_learner(settings, np.full(4, 0.5, np.float32), conditional)
        label = registry.entry(settings.model).label
        facts = factory.estimator_facts(settings, learner, label)
    except RebarError:
        return {}
    return {"estimators": {label: Facts(**values) for label, values in facts.items()}}


def frame(runs: Sequence[Run]) -> pd.DataFrame:
    """All values of some runs, see `rebar.compare.read`."""
    tables = []
    for run in runs:
        settings = {n: str(v) if isinstance(v, list) else v for n, v in run.hparams.items()}
        settings |= {"origin": run.origin, "seed": run.seed, "data": run.about.get("data")}
        settings["environment"] = run.about["environment"]
        for label, values in run.values.groupby("estimator", sort=False):
            more = {**run.facts(label)._asdict(), **settings}
            tables.append(values.assign(run=run.path, **more))
    table = pd.concat(tables, ignore_index=True)
    first = ["run", "step", "estimator", "quantity", "value", "origin", "seed", "data"]
    return table[[*first, *(name for name in table if name not in first)]]
