"""One run as it was logged: its settings, its estimators, and a data frame of its values."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rebar import registry
from rebar.data.sources import task_of
from rebar.hparams import HParams, completed, defaults
from rebar.plugins import with_plugins

_NO_LIMIT = 2_000_000
"""Default of --training_steps, as in 2017: not a length that a user chose."""

_LOGARITHMS = ("log_variance", "log_variance_q")
_COLUMNS = ["estimator", "step", "quantity", "value"]


@dataclasses.dataclass(eq=False)
class Run:
    """Content of a run's folder or log.

    Attributes:
      path: folder or file, as in messages.
      origin: "folder", "stdout", or "2017" for captured output of the 2017 script.
      hparams: hyperparameters; None where unknown.
      about: the other fields of hparams.json.
      label: of the estimator that trains the model; the path where it is unknown.
      tracked: whether the variances of several estimators were recorded.
      values: data frame with columns estimator, step, quantity, value; sorted by step.
    """

    path: str
    origin: str
    hparams: HParams | None
    about: dict[str, Any]
    label: str
    tracked: bool
    values: pd.DataFrame

    @property
    def seed(self) -> int | None:
        """None where unknown."""
        return self.about.get("seed")

    @property
    def last(self) -> int:
        """Last step with a finite ELBO; 0 without one."""
        return int(self.series("elbo").last_valid_index() or 0)

    @property
    def labels(self) -> list[str]:
        """Labels of its estimators, in the order of the records."""
        logged = self.values[self.values.quantity == "variance"].estimator
        return [*dict.fromkeys([*logged, self.label])] if self.tracked else [self.label]

    @property
    def planned(self) -> int | None:
        """Steps that it was started for; None if unknown or unlimited."""
        schedule, epochs = self.about.get("schedule", {}), self.series("epoch")
        steps = schedule.get("training_steps") or _NO_LIMIT
        if schedule.get("epochs") and len(epochs):
            steps_per_epoch = epochs.index[0] / epochs.iloc[0]
            steps = min(steps, round(schedule["epochs"] * steps_per_epoch))
        return None if steps >= _NO_LIMIT else steps

    @property
    def environment(self) -> str:
        """Variables and library settings that change numbers."""
        variables = sorted(self.about.get("environment", {}).items())
        return ", ".join(map("=".join, variables)) or "default"

    @functools.cached_property
    def settings(self) -> dict[str, str]:
        """Everything known that determines its numbers besides model, seed and trial.

        "auto" is resolved, and settings that have no effect are left out.
        """
        hparams, samples = self.hparams, self.series("eval_samples")
        if hparams is None:
            return {}
        planned_samples = self.about.get("schedule", {}).get("eval_samples")
        values = hparams.applicable() | {
            "network": self.about.get("network", "SigmoidBeliefNetwork"),
            "conditional": hparams.effective_conditional * task_of(hparams.task).conditional,
            "coupling": hparams.effective_coupling,
            "eval_samples": int(samples.iloc[-1]) if len(samples) else planned_samples,
            "data": self.about.get("data"),
            "environment": self.environment,
            "code": "2017" if self.origin == "2017" else "rebar",
        }
        without = {"model", "n_input", "trial"}
        without |= set() if hparams.nonlinear else {"activation"}
        without |= {"legacy2017", "coupling"} if self.origin == "2017" else set()
        return {n: str(v) for n, v in values.items() if v is not None and n not in without}

    def facts(self, label: str) -> dict[str, Any]:
        """Facts of an estimator: "unbiased", "evaluations" per training step; None where unknown.

        Recorded, or derived for output of the 2017 script.
        """
        derived = self.origin == "2017" and self.hparams
        table = _facts(self.hparams) if derived else self.about.get("estimators", {})
        return {name: table.get(label, {}).get(name) for name in ("unbiased", "evaluations")}

    def series(self, quantity: str, label: str | None = None) -> pd.Series:
        """A quantity of an estimator (by default that which trains) by step; NaN: non-finite."""
        wanted = (quantity, label or self.label)
        rows = (self.values.quantity == wanted[0]) & (self.values.estimator == wanted[1])
        return self.values[rows].set_index("step").value

    def x(self, kind: str, evaluations: float | None = None) -> pd.Series | None:
        """Position by step on a horizontal axis, one of `rebar.compare.X`; None without it."""
        steps = pd.Series({step: float(step) for step in self.values.step.unique()})
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

    Of two records of one step the later one counts. Raises an error of nearly any type if they are
    not what a run logs.
    """

    def known_hparams():
        names = defaults()
        values = completed(hparams)
        return HParams.from_dict({n: value for n, value in values.items() if n in names})

    checked = with_plugins(known_hparams, about.get("plugins"), path) if hparams else None
    tracked = any(isinstance(record.get("log_variance"), Mapping) for record in records)
    label = path
    if checked:
        label = checked.follow if tracked else checked.entry.label
    rows = [row for record in records for row in _rows(record, label)]
    values = pd.DataFrame(rows, columns=_COLUMNS).astype({"value": float})
    values = values.drop_duplicates(_COLUMNS[:3], keep="last").sort_values("step", kind="stable")
    logs = values.quantity.isin(_LOGARITHMS)
    values.loc[logs, "value"] = np.exp(values.value[logs].clip(upper=700))
    values.loc[logs, "quantity"] = values.quantity[logs].str.removeprefix("log_")
    # Numbers from here on have no finite square.
    values["value"] = values.value.where(values.value.abs() < 1e150)
    run = Run(path, origin, checked, {**about}, label, tracked, values)
    # Invalid types are reported here, not when they are used.
    _ = run.settings, run.planned, [{**facts} for facts in about.get("estimators", {}).values()]
    return run


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
def _facts(hparams: HParams) -> dict[str, dict]:
    """Facts by label, from a tiny model of the same depth. Imports TensorFlow."""
    from rebar.experiment import estimator_facts
    from rebar.factory import make_learner

    sizes = {} if hparams.latents else {"n_hidden": 2}
    settings = hparams.replace(**sizes, n_input=0)
    estimator = registry.make_estimator(settings.model, settings)
    conditional = task_of(settings.task).conditional
    make_learner(settings, estimator, np.full(4, 0.5, np.float32), conditional)
    return estimator_facts(settings, estimator, hparams.layers)


def frame(runs: Sequence[Run]) -> pd.DataFrame:
    """All values of some runs, see `rebar.compare.read`."""
    tables = []
    for run in runs:
        settings = {"origin": run.origin, "seed": run.seed, "data": run.about.get("data")}
        settings["environment"] = run.environment
        values = run.hparams.to_dict() if run.hparams else {}
        settings |= {n: str(v) if isinstance(v, list) else v for n, v in values.items()}
        for label, values in run.values.groupby("estimator", sort=False):
            tables.append(values.assign(run=run.path, **run.facts(label), **settings))
    table = pd.concat(tables, ignore_index=True)
    first = ["run", "step", "estimator", "quantity", "value", "origin", "seed", "data"]
    return table[[*first, *(name for name in table if name not in first)]]
