"""One run as it was logged: its settings, its estimators, and a data frame of its values."""

import dataclasses
import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rebar import registry
from rebar.data.sources import TASKS
from rebar.errors import RebarError
from rebar.hparams import HParams, grammar

_NO_LIMIT = 2_000_000
"""Default of --training_steps, as in 2017: not a length that a user chose."""

_LOGARITHMS = ("log_variance", "log_variance_q")


@dataclasses.dataclass(eq=False)
class Run:
    """Content of a run's folder or log.

    Attributes:
      path: folder or file, as in messages.
      origin: "folder", "stdout", or "2017" for captured output of the 2017 script.
      hparams: all hyperparameters, with defaults; {} where unknown.
      about: the other fields of hparams.json.
      seed: None where unknown.
      label: of the estimator that trains the model; the path where it is unknown.
      tracked: whether the variances of several estimators were recorded.
      values: data frame with columns estimator, step, quantity, value; sorted by step.
    """

    path: str
    origin: str
    hparams: dict[str, Any]
    about: dict[str, Any]
    seed: int | None
    label: str
    tracked: bool
    values: pd.DataFrame

    @property
    def last(self) -> int:
        """Step of its last record."""
        return int(self.values.step.max())

    @property
    def labels(self) -> list[str]:
        """Labels of its estimators, in the order of the records."""
        logged = self.values[self.values.quantity == "variance"].estimator
        return [*dict.fromkeys([*logged, self.label])] if self.tracked else [self.label]

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

    @functools.cached_property
    def settings(self) -> dict[str, str]:
        """Everything known that determines its numbers besides model, seed and trial, as typed.

        "auto" is resolved, and settings that have no effect are left out.
        """
        if not self.hparams:
            return {"log": self.path}
        names = ("n_layer", "legacy2017", "coupling", "conditional")
        resolved = HParams(**{name: self.hparams[name] for name in names})
        conditional = getattr(TASKS.get(self.hparams["task"]), "conditional", False)
        values = self.hparams | {
            "network": self.about.get("network", "SigmoidBeliefNetwork"),
            "conditional": resolved.effective_conditional if conditional else "",
            "coupling": resolved.effective_coupling,
            "eval_samples": self.about.get("schedule", {}).get("eval_samples"),
            "data": self.about.get("data"),
            "environment": self.about["environment"],
            "code": "2017" if self.origin == "2017" else "rebar",
        }
        samples = self.series("eval_samples")
        values |= {"eval_samples": int(samples.iloc[-1])} if len(samples) else {}
        without = {"model", "n_input", "trial"}
        without |= set() if values["nonlinear"] else {"activation"}
        without |= set() if self.tracked else {"track", "follow"}
        without |= {"legacy2017", "coupling", "environment"} if self.origin == "2017" else set()
        return {
            name: str(value).lower() if isinstance(value, bool) else grammar.write(value)
            for name, value in values.items()
            if value is not None and name not in without
        }

    @property
    def categorical(self) -> bool:
        """True for a registered model with categorical latents."""
        model = self.hparams.get("model")
        return model in registry.names() and registry.entry(model).latents == "categorical"

    def facts(self, label: str) -> dict[str, Any]:
        """Facts of an estimator: "unbiased", "evaluations" per training step; None where unknown.

        Recorded, or derived for output of the 2017 script.
        """
        known = self.about.get("estimators", {})
        known = _facts(json.dumps(self.hparams)) if self.origin == "2017" else known
        return {name: known.get(label, {}).get(name) for name in ("unbiased", "evaluations")}

    def series(self, quantity: str, label: str | None = None) -> pd.Series:
        """A quantity of an estimator (by default that which trains) by step; NaN: non-finite."""
        wanted = (quantity, label or self.label)
        rows = (self.values.quantity == wanted[0]) & (self.values.estimator == wanted[1])
        return self.values[rows].set_index("step").value

    def x(self, kind: str, evaluations: float | None = None) -> pd.Series | None:
        """Position by step on a horizontal axis, one of `rebar.compare.X`; None without it."""
        steps = pd.Series(index=self.values.step.unique(), dtype=float)
        steps[:] = steps.index
        values = {
            "steps": steps,
            "epochs": self.series("epoch"),
            "seconds": self.series("seconds").cumsum(),
            "evaluations": steps * (evaluations or math.nan),
        }[kind].reindex(steps.index)
        return None if values.isna().any() else values


def make_run(
    path: str,
    origin: str,
    hparams: Mapping[str, Any],
    about: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
) -> Run:
    """Make a run from settings as in hparams.json and records as in metrics.jsonl.

    Of two records of one step the later one counts.

    Raises:
      RebarError: they are not what a run logs.
    """
    try:
        if hparams:
            defaults = HParams()
            hparams = {**defaults.to_dict(), **hparams}
            for name, default in defaults.values().items():
                hparams[name] = grammar.typed(hparams[name], default)
        about = {name: value for name, value in about.items() if value is not None}
        outside = sorted(about.get("environment", {}).items())
        about["environment"] = ", ".join(map("=".join, outside)) or "default"
        tracked = any(isinstance(record.get("log_variance"), Mapping) for record in records)
        model = hparams.get("model", path)
        label = registry.entry(model).label if model in registry.names() else model
        label = hparams["follow"] if tracked and hparams else about.get("label") or label
        columns = ["estimator", "step", "quantity", "value"]
        values = pd.DataFrame(
            [row for record in records for row in _rows(record, label)], columns=columns
        )
        values = values.drop_duplicates(columns[:3], keep="last").sort_values("step", kind="stable")
        values["value"] = values.value.astype(float)
        logs = values.quantity.isin(_LOGARITHMS)
        with np.errstate(over="ignore"):
            values.loc[logs, "value"] = np.exp(values.value[logs])
        values.loc[logs, "quantity"] = values.quantity[logs].str.removeprefix("log_")
        # Numbers from here on have no finite square.
        values["value"] = values.value.where(values.value.abs() < 1e150)
        run = Run(path, origin, hparams, about, about.get("seed"), label, tracked, values)
        # Invalid types are reported here, not when they are used.
        _ = run.settings, run.planned, [{**facts} for facts in about.get("estimators", {}).values()]
        return run
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise RebarError(f"not the log of a run: {error}") from error


def _rows(record, label) -> Iterator[tuple]:
    """(estimator, step, quantity, value) of a record's numbers."""
    step = record["step"]
    for name, value in record.items():
        if name in _LOGARITHMS:
            logs = value if isinstance(value, Mapping) else {label: value}
            yield from ((estimator, step, name, log) for estimator, log in logs.items())
        elif name == "estimator_variance":
            for estimator, parts in (value or {}).items():
                for part, number in parts.items():
                    if not isinstance(number, Mapping):
                        yield estimator, step, f"{name}/{part}", number
        elif name != "step" and not isinstance(value, bool | str | list | Mapping):
            yield label, step, name, value


@functools.cache
def _facts(hparams: str) -> dict[str, dict]:
    """Facts by label, from a tiny model of the same depth. Imports TensorFlow."""
    from rebar.experiment import estimator_facts
    from rebar.factory import make_learner

    values = {n: v for n, v in json.loads(hparams).items() if n in HParams().values()}
    try:
        settings = HParams.from_dict(values | {"n_hidden": 2, "n_input": 0})
        estimator = registry.make_estimator(settings.model, settings)
        conditional = TASKS[settings.task].conditional
        make_learner(settings, estimator, np.full(4, 0.5, np.float32), conditional)
        return estimator_facts(settings, estimator)
    except RebarError:
        return {}


def frame(runs: Sequence[Run]) -> pd.DataFrame:
    """All values of some runs, see `rebar.compare.read`."""
    tables = []
    for run in runs:
        settings = {"origin": run.origin, "seed": run.seed, "data": run.about.get("data")}
        settings["environment"] = run.about["environment"]
        for name, value in run.hparams.items():
            settings[name] = str(list(value)) if isinstance(value, tuple) else value
        for label, values in run.values.groupby("estimator", sort=False):
            more = run.facts(label) | settings
            tables.append(values.assign(run=run.path, **more))
    table = pd.concat(tables, ignore_index=True)
    first = ["run", "step", "estimator", "quantity", "value", "origin", "seed", "data"]
    return table[[*first, *(name for name in table if name not in first)]]
