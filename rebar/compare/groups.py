"""Grouping of runs.

    comparison    runs of one task and architecture: a figure and a table; a tracking run is one of
                  its own, since its variances are all on the trajectory of the estimator followed
    line          runs of one estimator with the same settings and data, over seeds

The runs of a line differ in seed and trial; anything else makes another line, named after it.
"""

import collections
import dataclasses
import re
from collections.abc import Sequence

import pandas as pd

from rebar.compare.runs import Run
from rebar.data.sources import TASKS, task_title

_ARCHITECTURE = (
    *("task", "network", "n_layer", "n_hidden", "n_categories", "n_latents", "prior"),
    *("nonlinear", "activation", "conditional", "dynamic_b"),
)
"""Settings that make another model or other images, and so another figure."""

_LEAST_PART = 0.5
"""Where no run of a line is finished, those that got this far of the furthest make its mean."""


def mean(numbers: Sequence[float] | pd.Series = ()) -> tuple[float, float]:
    """Mean and standard error over seeds; NaN where there is none."""
    series = pd.Series(numbers, dtype=float)
    return series.mean(skipna=False), series.sem(skipna=False)


@dataclasses.dataclass(eq=False)
class Line:
    """One estimator with one set of settings.

    Attributes:
      label: label of its estimator.
      name: label and the settings in which it differs from other lines of the comparison.
      runs: runs in the mean, one per seed.
      short: runs that are not in the mean: unfinished or diverged.
      unbiased, evaluations: see `Run.facts`.
      trains: whether it trained the model, instead of only being tracked.
      cost: evaluations of f per step of the training.
    """

    label: str
    name: str
    runs: list[Run]
    short: list[Run]
    unbiased: bool | None
    evaluations: float | None
    trains: bool
    cost: float | None

    @property
    def settings(self) -> dict[str, str]:
        """See `Run`."""
        return self.runs[0].settings

    def all_series(self, quantity: str) -> list[pd.Series]:
        """A quantity by step for each run, those not in the mean included."""
        return [run.series(quantity, self.label) for run in [*self.runs, *self.short]]

    def table(self, quantity: str) -> pd.DataFrame:
        """One row per step that all runs have, one column per run."""
        series = self.all_series(quantity)[: len(self.runs)]
        return pd.concat(series, axis=1, join="inner", ignore_index=True).sort_index()


@dataclasses.dataclass(eq=False)
class Comparison:
    """Content of one figure and table.

    Attributes:
      slug: name of its files.
      title: data set and architecture.
      follow: label of the estimator that trains, in a tracking run; else None.
      lines: in the order in which their runs were given.
      notes: irregularities, one sentence each.
    """

    slug: str
    title: str
    follow: str | None
    lines: list[Line]
    notes: list[str]


def comparisons(runs: list[Run]) -> list[Comparison]:
    """Group runs; see the module. Sorted by task and architecture, then tracking runs."""
    result = []
    figures = _grouped(runs, _figure_key)
    for key in sorted(figures, key=str):
        members = figures[key]
        first = members[0]
        title = _title(first) + ", 2017 code" * all(run.origin == "2017" for run in members)
        follow = first.label if first.tracked else None
        comparison = Comparison(_slug(first), title, follow, [], [])
        for group in _grouped(members, lambda run: (run.label, *run.settings.items())).values():
            kept = _without_copies(group, comparison.notes)
            comparison.lines += _lines(kept, members, comparison.notes)
        _name(comparison)
        for name in ("jit", "threads", "versions"):
            if len({str(run.about[name]) for run in members if name in run.about}) > 1:
                comparison.notes.append(f"{name} differs: the seconds cannot be compared")
        result.append(comparison)
    for group in _grouped(result, lambda one: (one.title, one.follow)).values():
        for name, values in _differing([one.lines[0].settings for one in group]).items():
            for one, value in zip(group, values, strict=True):
                one.title += f", {name}={value}" * (bool(one.follow) or name in _ARCHITECTURE)
    for group in _grouped(result, lambda one: one.slug).values():
        for i, one in enumerate(group[1:], start=2):
            one.slug += f"-{i}"
    return result


def _grouped(items, key):
    groups = collections.defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def _figure_key(run):
    settings = run.settings.items()
    architecture = [(name, value) for name, value in settings if name in _ARCHITECTURE]
    return (*architecture, *(("track", *settings) if run.tracked else ()))


def _without_copies(runs, notes):
    """One run per seed and trial: the longest, a folder rather than captured output."""
    kept: dict[tuple, Run] = {}
    for run in sorted(runs, key=lambda r: (-r.last, r.origin != "folder", r.path)):
        # Without a seed, runs that begin alike are one.
        begin = (run.path, *run.series("elbo").round(4).iloc[:1])[-1]
        key = (begin,) if run.seed is None else (run.seed, run.hparams.get("trial"))
        if kept.setdefault(key, run) is not run:
            notes.append(f"{run.path}: left out, the same run as {kept[key].path}")
    return sorted(kept.values(), key=lambda r: (str(r.seed), r.path))


def _lines(runs, members, notes):
    """The line of some runs, or one for each estimator that they track."""
    furthest = max(run.last for run in members)
    diverged = [run for run in runs if run.series("elbo").isna().any()]
    finite = [run for run in runs if run not in diverged] or runs
    finished = [run.last for run in finite if run.last >= (run.planned or furthest)]
    # Without a finished run, those that got far enough.
    least = max(finished, default=_LEAST_PART * max(run.last for run in finite))
    complete = [run for run in finite if run.last >= least]
    short = [run for run in runs if run not in complete]
    for run in runs:
        reasons = {
            "no hyperparameters in it: task, estimator and seed are unknown": not run.hparams,
            f"unfinished, step {run.last} of {run.planned or furthest}": (
                run.last < max(least, run.planned or 0)
            ),
            "its ELBO is non-finite": run in diverged,
            "shown as a thin line and excluded from the mean": run in short,
        }
        text = "; ".join(reason for reason, applies in reasons.items() if applies)
        notes += [f"{run.path}: {text}"] * bool(text)
    first = complete[0]
    cost = first.facts(first.label)["evaluations"]
    return [
        Line(
            label, label, complete, short, *first.facts(label).values(), label == first.label, cost
        )
        for label in first.labels
    ]


def _title(run: Run) -> str:
    if not run.hparams:
        return "Unknown data set and settings"
    known, task = run.settings, run.hparams["task"]
    title = task_title(task, run.hparams["dynamic_b"]) if task in TASKS else f"task {task}"
    if run.categorical:
        return f"{title}, {known['n_latents']} variables of {known['n_categories']} categories"
    layers = f"{known['n_layer']} stochastic layer{'s' * (known['n_layer'] != '1')}"
    kind = f"nonlinear ({known['activation']})" if "activation" in known else "linear"
    return f"{title}, {layers} of {known['n_hidden']} units, {kind}"


def _slug(run: Run) -> str:
    """Name of the files of a comparison, of characters that any file system takes."""
    if not run.hparams:
        return "unknown"
    sizes = ("n_categories", "n_latents") if run.categorical else ("n_layer", "n_hidden")
    parts = [run.settings["task"], "x".join(run.settings[size] for size in sizes)]
    parts += ["nonlinear"] * run.hparams["nonlinear"] + ["dynamic"] * run.hparams["dynamic_b"]
    parts += ["tracked", run.label] if run.tracked else []
    return re.sub(r"[^A-Za-z0-9._+-]", "_", "-".join(parts)).lstrip(".+-")[:150] or "_"


def _name(comparison) -> None:
    """Name lines by their label and the settings that set them apart from most others."""
    lines = comparison.lines
    labels = pd.Series([line.label for line in lines])
    words = []
    for name, values in _differing([line.settings for line in lines]).items():
        usual = "rebar" if name == "code" else values.mode()[0]
        ambiguous = values.groupby(labels).transform("nunique") > 1
        for line, value in zip(lines, values.where(ambiguous | (values != usual)), strict=True):
            if isinstance(value, str):
                line.name += f", {name}={value if len(value) < 24 else value[:20] + '...'}"
        who = labels.groupby(values.fillna("unknown"), sort=False).unique()
        texts = [f"{value}: {', '.join(names)}" for value, names in who.items()]
        words.append(f"{name} ({'; '.join(texts)})")
    if words:
        comparison.notes.append(f"the settings of lines differ: {', '.join(words)}")


def _differing(settings: Sequence[dict[str, str]]) -> pd.DataFrame:
    """A column for each setting that differs; NaN where it is unknown or has no effect."""
    table = pd.DataFrame(settings).drop(columns="log", errors="ignore")
    return table[[name for name in sorted(table) if table[name].nunique() > 1]]
