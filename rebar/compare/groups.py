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
from rebar.data.sources import task_slug, task_title

_ARCHITECTURE = (
    *("task", "network", "n_layer", "n_hidden", "n_categories", "n_latents", "latents"),
    *("prior", "likelihood", "nonlinear", "activation", "conditional", "dynamic_b"),
)
"""Settings that make another model or other images, and so another figure."""

_LEAST_PART = 0.5
"""Where no run of a line is finished, those that got this far of the furthest make its mean."""


@dataclasses.dataclass(eq=False)
class Line:
    """One estimator with one set of settings.

    Attributes:
      label: label of its estimator.
      name: label and the settings in which it differs from other lines of the comparison.
      runs: runs in the mean, one per seed.
      short: runs that are not in the mean: unfinished or non-finite.
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
        slug, title = _slug_and_title(first)
        title += ", 2017 code" * all(run.origin == "2017" for run in members)
        comparison = Comparison(slug, title, first.label if first.tracked else None, [], [])
        for group in _grouped(members, lambda run: (run.label, *run.settings.items())).values():
            kept = _without_copies(group, comparison.notes)
            comparison.lines += _lines(kept, members, comparison.notes)
        _name(comparison.lines)
        for name in ("jit", "threads", "versions"):
            if len({str(run.about[name]) for run in members if name in run.about}) > 1:
                comparison.notes.append(f"{name} differs: the seconds cannot be compared")
        result.append(comparison)
    for group in _grouped(result, lambda one: (one.title, one.follow)).values():
        for name, values in _differing([one.lines[0] for one in group]).items():
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
        key = (run.path,) if run.seed is None else (run.seed, run.hparams.trial)
        if kept.setdefault(key, run) is not run:
            notes.append(f"{run.path}: left out, the same run as {kept[key].path}")
    return sorted(kept.values(), key=lambda r: (str(r.seed), r.path))


def _lines(runs, members, notes):
    """The line of some runs, or one for each estimator that they track."""
    furthest = max(run.last for run in members)
    finished = [run.last for run in runs if run.last >= (run.planned or furthest)]
    # Without a finished run, those that got far enough.
    least = max(finished, default=_LEAST_PART * max(run.last for run in runs))
    complete = [run for run in runs if run.last >= least]
    short = [run for run in runs if run.last < least]
    for run in runs:
        if run.last < max(least, run.planned or 0):
            text = f"unfinished or non-finite, step {run.last} of {run.planned or furthest}"
            text += "; shown as a thin line and excluded from the mean" * (run in short)
            notes.append(f"{run.path}: {text}")
    first = complete[0]
    cost = first.facts(first.label)["evaluations"]
    return [
        Line(
            label, label, complete, short, *first.facts(label).values(), label == first.label, cost
        )
        for label in first.labels
    ]


def _slug_and_title(run: Run) -> tuple[str, str]:
    """Name of the files, of characters that any file system takes, and title of a comparison."""
    hparams = run.hparams
    if hparams is None:
        return "unknown", "Unknown data set and settings"
    parts = [task_slug(hparams.task), hparams.sizes]
    parts += ["nonlinear"] * hparams.nonlinear + ["dynamic"] * hparams.dynamic_b
    parts += ["tracked", run.label] if run.tracked else []
    slug = re.sub(r"[^A-Za-z0-9._+-]", "_", "-".join(parts))
    return slug, f"{task_title(hparams.task, hparams.dynamic_b)}, {hparams.architecture}"


def _name(lines: Sequence[Line]) -> None:
    """Name lines by their label and the settings that set them apart from most others."""
    labels = pd.Series([line.label for line in lines])
    for name, values in _differing(lines).items():
        usual = "rebar" if name == "code" else values.mode()[0]
        ambiguous = values.groupby(labels).transform("nunique") > 1
        for line, value in zip(lines, values.where(ambiguous | (values != usual)), strict=True):
            if isinstance(value, str):
                line.name += f", {name}={value if len(value) < 24 else value[:20] + '...'}"


def _differing(lines: Sequence[Line]) -> pd.DataFrame:
    """A column for each setting that differs; NaN where it is unknown or has no effect."""
    table = pd.DataFrame([line.runs[0].settings for line in lines])
    return table[[name for name in sorted(table) if table[name].nunique() > 1]]
