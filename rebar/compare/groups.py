"""Grouping of runs.

    comparison    runs of one task and architecture: a figure and a table; a tracking run is one of
                  its own, since its variances are all on the trajectory of the estimator followed
    line          runs of one estimator with the same settings and data, over seeds

The runs of a line differ in seed and trial. Anything else that differs makes another line and is
part of its name.
"""

import collections
import dataclasses
import re
from collections.abc import Sequence
from typing import NamedTuple

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


class Value(NamedTuple):
    """Mean and standard error over seeds; NaN where there is none."""

    mean: float = float("nan")
    error: float = float("nan")


def mean(numbers: Sequence[float] | pd.Series) -> Value:
    """Mean and standard error of some numbers."""
    series = pd.Series(numbers, dtype=float)
    return Value(series.mean(skipna=False), series.sem(skipna=False))


@dataclasses.dataclass(eq=False)
class Line:
    """One estimator with one set of settings.

    Attributes:
      label: label of the estimator.
      name: label, and the settings in which it differs from other lines of the comparison.
      settings: see `Run`.
      runs: runs in the mean, one per seed.
      short: runs that are not in the mean: unfinished or diverged.
      unbiased, evaluations: see `Run.facts`.
      trains: whether it trained the model, instead of only being tracked.
      cost: evaluations of f per step of the training.
    """

    label: str
    name: str
    settings: dict[str, str]
    runs: list[Run]
    short: list[Run]
    unbiased: bool | None
    evaluations: float | None
    trains: bool
    cost: float | None

    def table(self, quantity: str) -> pd.DataFrame:
        """One row per step that all runs have, one column per run."""
        series = [run.series(quantity, self.label) for run in self.runs]
        return pd.concat(series, axis=1, join="inner", ignore_index=True).sort_index()


@dataclasses.dataclass(eq=False)
class Comparison:
    """Content of one figure and table.

    Attributes:
      slug: name of its files.
      task: task of all runs; "" if unknown.
      title: data set and architecture.
      follow: label of the estimator that trains, in a tracking run; else None.
      lines: in the order in which their runs were given.
      notes: irregularities, one sentence each.
    """

    slug: str
    task: str
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
        comparison = Comparison(
            _slug(first),
            first.hparams.get("task", ""),
            _title(first) + ", 2017 code" * all(run.origin == "2017" for run in members),
            first.label if first.tracked else None,
            [],
            [],
        )
        for group in _grouped(members, lambda run: (run.label, *run.settings.items())).values():
            kept = _without_copies(group, comparison.notes)
            comparison.lines += _lines(kept, members, comparison.notes)
        _name(comparison)
        for name in ("jit", "threads", "versions"):
            if len({str(run.about[name]) for run in members if name in run.about}) > 1:
                comparison.notes.append(f"{name} differs: the seconds cannot be compared")
        result.append(comparison)
    titles = _grouped(result, lambda comparison: (comparison.title, comparison.follow))
    for group in titles.values():
        for name, values in _differing([c.lines[0].settings for c in group]).items():
            for comparison, value in zip(group, values, strict=True):
                comparison.title += f", {_setting(name, value)}"
    count: collections.Counter = collections.Counter()
    for comparison in result:
        count[comparison.slug] += 1
        if count[comparison.slug] > 1:
            comparison.slug += f"-{count[comparison.slug]}"
    return result


def _grouped(items, key):
    """Items by key, both in the order of the items."""
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
    finite = [run for run in runs if not run.diverged] or runs
    finished = [run.last for run in finite if run.last >= (run.planned or furthest)]
    # Without a finished run, those that got far enough.
    least = max(finished, default=_LEAST_PART * max(run.last for run in finite))
    complete = [run for run in finite if run.last >= least]
    for run in runs:
        reasons = []
        if not run.hparams:
            reasons.append("no hyperparameters in it: task, estimator and seed are unknown")
        if run.last < max(least, run.planned or 0):
            reasons.append(f"unfinished, step {run.last} of {run.planned or furthest}")
        if run.diverged:
            bad = run.series("elbo").isna().idxmax()
            reasons.append(f"its ELBO is non-finite from step {bad}")
        if run not in complete:
            reasons.append("shown as a thin line and excluded from the mean")
        notes += [f"{run.path}: {'; '.join(reasons)}"] * bool(reasons)
    first = complete[0]
    cost = first.facts(first.label)["evaluations"]
    return [
        Line(
            *(label, label, first.settings, complete, [run for run in runs if run not in complete]),
            *(*first.facts(label).values(), label == first.label, cost),
        )
        for label in first.labels
    ]


def _title(run: Run) -> str:
    """Data set and architecture in words."""
    if not run.hparams:
        return "Unknown data set and settings"
    known, task = run.settings, run.hparams["task"]
    title = task_title(task, run.hparams["dynamic_b"]) if task in TASKS else f"task {task}"
    if run.categorical:
        title += f", {known['n_latents']} variables of {known['n_categories']} categories"
        return title + ", learned prior" * (known["prior"] == "learned")
    layers = int(known["n_layer"])
    title += f", {layers} stochastic layer{'s' * (layers > 1)} of {known['n_hidden']} units, "
    title += f"nonlinear ({known['activation']})" if "activation" in known else "linear"
    if known["conditional"]:
        title += f", {known['conditional']} conditional network"
    return title + f", {known['network']}" * _custom_network(run)


def _custom_network(run):
    usual = run.settings["conditional"] or "Belief" in run.settings["network"]
    return not usual and not run.categorical


def _slug(run: Run) -> str:
    """Name of the files of a comparison, of characters that any file system takes."""
    if not run.hparams:
        return "unknown"
    known = run.settings
    sizes = ("n_categories", "n_latents") if run.categorical else ("n_layer", "n_hidden")
    parts = [known["task"], *[known["network"]] * _custom_network(run)]
    parts += ["x".join(known[size] for size in sizes), *["nonlinear"] * run.hparams["nonlinear"]]
    parts += ["learned"] * (run.categorical and known["prior"] == "learned")
    parts += ["dynamic"] * run.hparams["dynamic_b"]
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
            line.name += f", {_setting(name, value)}" if isinstance(value, str) else ""
        who = labels.groupby(values.fillna("unknown"), sort=False).unique()
        texts = [f"{value}: {', '.join(names)}" for value, names in who.items()]
        words.append(f"{name} ({'; '.join(texts)})")
    if words:
        comparison.notes.append(f"the settings of lines differ: {', '.join(words)}")


def _differing(settings: Sequence[dict[str, str]]) -> pd.DataFrame:
    """A column for each setting that differs; NaN where it is unknown or has no effect."""
    table = pd.DataFrame(settings).drop(columns="log", errors="ignore")
    return table[[name for name in sorted(table) if table[name].nunique() > 1]]


def _setting(name, value):
    if name == "code":
        return f"{value} code"
    return f"{name}={value if len(value) < 24 else value[:20] + '...'}"
