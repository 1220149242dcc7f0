"""One run as it was logged, whichever way."""

import dataclasses
import math
import statistics
from collections.abc import Mapping
from typing import Any

from rebar import registry
from rebar.data.sources import TASKS
from rebar.errors import RebarError
from rebar.hparams import HParams

X = ("steps", "epochs", "seconds", "evaluations")
"""What a run can be drawn against."""

_ENDLESS = 2_000_000
"""The end of the 2017 script, which is also the default: no plan of a user's."""


_MOST = 1e150


@dataclasses.dataclass
class RunLog:
    """What is known of a run.

    Attributes:
      path: of its folder or file, as messages say it.
      origin: "folder", "stdout", or "2017" for captured output of the 2017 script.
      hparams: all hyperparameters, defaults filled in; {} where they are not known.
      about: the other fields of hparams.json.
      seed: None where it is not known.
      records: by step, as in metrics.jsonl.
      notes: what is odd about it.
    """

    path: str
    origin: str
    hparams: dict[str, Any]
    about: dict[str, Any]
    seed: int | None
    records: list[dict[str, Any]]
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def last(self) -> int:
        """Steps of the last record."""
        return self.records[-1]["step"]

    @property
    def tracked(self) -> bool:
        """Whether it has the variances of several methods."""
        return any(isinstance(r.get("log_variance"), Mapping) for r in self.records)

    @property
    def label(self) -> str:
        """Of the estimator that trains the model; the path where that is not known."""
        if self.tracked and "follow" in self.hparams:
            return self.hparams["follow"]
        if "label" in self.about:
            return self.about["label"]
        model = self.hparams.get("model", self.path)
        return registry.entry(model).label if model in registry.names() else model

    @property
    def labels(self) -> list[str]:
        """Of the methods whose variances it has."""
        if not self.tracked:
            return [self.label]
        logged = [v for r in self.records if isinstance(v := r.get("log_variance"), Mapping)]
        return list(dict.fromkeys(label for variances in logged for label in variances))

    @property
    def planned(self) -> int | None:
        """Steps that it was started for, None if that is not known or without end."""
        schedule = self.about.get("schedule") or {}
        steps = schedule.get("training_steps") or _ENDLESS
        if schedule.get("epochs"):
            first = self.records[0]
            if is_number(first.get("epoch")) and first["epoch"] > 0:
                planned = schedule["epochs"] * first["step"] / first["epoch"]
                steps = round(planned) if planned < steps else steps
        return None if steps >= _ENDLESS else steps

    @property
    def replicate(self) -> tuple:
        """What tells repeats of a run apart; runs that share it are one run, logged twice."""
        if self.seed is None:
            return (self.path,)
        return (self.seed, self.hparams.get("trial"))

    @property
    def network(self) -> str:
        """The class of the model; runs from before it was recorded are sigmoid belief networks."""
        if "network" in self.about:
            return self.about["network"]
        task = TASKS.get(self.hparams.get("task"))
        if task is None or not task.conditional:
            return "SigmoidBeliefNetwork"
        return "SingleLayerConditional" if self.conditional == "2017" else "ConditionalSBN"

    @property
    def conditional(self) -> str:
        """hparams.effective_conditional; "" for tasks that are not conditional."""
        task = TASKS.get(self.hparams.get("task"))
        return self._effective("conditional") if task and task.conditional else ""

    @property
    def coupling(self) -> str:
        """hparams.effective_coupling."""
        return self.about.get("coupling") or self._effective("coupling")

    def _effective(self, name):
        names = ("n_layer", "legacy2017", name)
        return getattr(HParams(**{n: self.hparams[n] for n in names}), f"effective_{name}")

    @property
    def eval_samples(self) -> int | None:
        """S of the evaluated bound."""
        found = [r["eval_samples"] for r in self.records if r.get("eval_samples")]
        return found[-1] if found else (self.about.get("schedule") or {}).get("eval_samples")

    @property
    def seconds_per_step(self) -> float | None:
        """The median over records, of which the first, with its compiling, does not count."""
        pairs = zip(self.records, self.records[1:], strict=False)
        times = [
            b["seconds"] / (b["step"] - a["step"]) for a, b in pairs if is_number(b.get("seconds"))
        ]
        return statistics.median(times) if times else None

    @property
    def diverged(self) -> bool:
        """Whether its ELBO is not finite somewhere."""
        return any("elbo" in r and not is_number(r["elbo"]) for r in self.records)

    def nonfinite(self) -> list[str]:
        """A sentence for each column of a usual panel that is not finite somewhere."""
        found: dict[str, list[int]] = {}
        for record in self.records:
            for column in ("elbo", "log_variance", "valid", "test", "estimator_variance"):
                for name in _not_finite(record.get(column, 0), column):
                    found.setdefault(name, []).append(record["step"])
        return [f"{name} is not finite at step {listed(s)}" for name, s in found.items()]

    def x(self, kind: str, evaluations: float | None = None) -> dict[int, float] | None:
        """Step -> where it lies on an axis of `X`; None if the log does not say.

        Args:
          kind: one of `X`.
          evaluations: of f a step.
        """
        steps = [r["step"] for r in self.records]
        if kind == "steps":
            return dict(zip(steps, map(float, steps), strict=True))
        if kind == "evaluations":
            return evaluations and {step: step * evaluations for step in steps}
        values = [r.get("epoch" if kind == "epochs" else "seconds") for r in self.records]
        if not all(map(is_number, values)):
            return None
        if kind == "seconds":
            total, values = 0.0, list(values)
            for i, value in enumerate(values):
                total += value
                values[i] = total
        return dict(zip(steps, values, strict=True))

    def series(self, column: str, label: str, part: str = "total") -> dict[int, float]:
        """Step -> value of the records that have a column, NaN where it was not finite.

        Args:
          column: "variance" (not its logarithm), "estimator_variance", or a name in the records.
          label: the method whose variance it is.
          part: of the estimator's variance.
        """
        found = {r["step"]: _value(r, column, label, part) for r in self.records}
        return {step: value for step, value in found.items() if value is not None}


def listed(numbers: list[int], most: int = 5) -> str:
    """ "1, 2, 3 and 7 more"."""
    told = ", ".join(map(str, numbers[:most]))
    return f"{told} and {len(numbers) - most} more" if len(numbers) > most else told


def is_number(value: Any) -> bool:
    """Whether it is a number, no bool, and finite; so is its square."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and -_MOST < value < _MOST


def _not_finite(value, name):
    """Names of what is not a finite number in a value, which may be nested."""
    if isinstance(value, Mapping):
        for inner, one in value.items():
            yield from _not_finite(one, f"{name}.{inner}")
    elif not is_number(value):
        yield name


def _value(record, column, label, part):
    """A number, NaN for one that is not finite, None for nothing."""
    if column == "estimator_variance":
        table = record.get(column) or {}
        if label not in table and len(table) == 1:
            label = next(iter(table))
        return _number(table.get(label) or {}, part)
    if column != "variance":
        return _number(record, column)
    value = record.get("log_variance")
    holder = value if isinstance(value, Mapping) else {label: value}
    if "log_variance" not in record or label not in holder:
        return None
    log = _number(holder, label)
    return math.nan if log is None or log > 700 else math.exp(log)


def _number(holder, name):
    if name not in holder:
        return None
    value = holder[name]
    if is_number(value):
        return float(value)
    return math.nan if value is None or isinstance(value, float) else None


def fill(hparams: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Logged hyperparameters with the defaults of those that came later.

    Args:
      hparams: name -> value.
      source: what holds them, for the message.

    Raises:
      RebarError: they are no hyperparameters, or some are of another type than ours.
    """
    if not isinstance(hparams, Mapping) or not isinstance(hparams.get("model"), str):
        raise RebarError(f"{source} holds no hyperparameters of a run")
    if not all(isinstance(name, str) and name.isprintable() for name in hparams):
        raise RebarError(f"{source} holds hyperparameters without proper names")
    filled = {**HParams().to_dict(), **hparams}
    for name, value in HParams().to_dict().items():
        if not _alike(filled[name], value):
            raise RebarError(f"{source}: {name}={filled[name]!r:.99} cannot be of a run")
    HParams(**{name: filled[name] for name in _DEPTH})
    return filled


_DEPTH = ("n_layer", "legacy2017", "coupling", "conditional")
"""What `RunLog.coupling` and `RunLog.conditional` follow from."""


def _alike(value, default):
    """Whether a hyperparameter's value is of the type of its default."""
    if isinstance(default, list):
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    if isinstance(default, bool | str):
        return isinstance(value, type(default)) and str(value).isprintable()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return isinstance(default, float) or isinstance(value, int)
