"""Grouping of runs.

    comparison    runs of one task and architecture: a figure and a table; a tracking run is one of
                  its own, since its variances are all on the trajectory of the estimator followed
    line          runs of one estimator with the same settings and data, over seeds

Seed and trial are what the runs of a line differ in. Anything else that differs makes another line
and is part of its name.
"""

import collections
import dataclasses
from typing import Any

from rebar.compare import names
from rebar.compare.names import architecture, settings, written
from rebar.compare.runs import Run

_LEAST_PART = 0.5
"""Where no run of a line is finished, those that got this far of the furthest make its mean."""


@dataclasses.dataclass(eq=False)
class Line:
    """One estimator with one set of settings.

    Attributes:
      label: of the estimator.
      name: label, and the settings in which it differs from other lines of the comparison.
      settings: name -> value as typed.
      runs: those that the mean is of, one per seed.
      short: those that ended, or are, before the others, or diverged.
      unbiased, evaluations: see `Facts`.
      trains: whether the model was trained by it (not: only its variance tracked).
    """

    label: str
    name: str
    settings: dict[str, Any]
    runs: list[Run]
    short: list[Run]
    unbiased: bool | None = None
    evaluations: float | None = None
    trains: bool = True

    @property
    def seeds(self) -> int:
        """Number of runs that the mean is of."""
        return len(self.runs)


@dataclasses.dataclass(eq=False)
class Comparison:
    """Content of one figure.

    Attributes:
      slug: name of its files.
      task: of all runs; "" if unknown.
      title: data set and architecture.
      follow: label of the estimator that trains, in a tracking run; else None.
      lines: in the order in which their runs were given.
      notes: one sentence for each thing that a reader must know.
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
            names.slug(first),
            first.hparams.get("task", ""),
            names.title(first),
            first.label if first.tracked else None,
            [],
            [f"{run.path}: {note}" for run in members for note in [*run.notes, *run.nonfinite()]],
        )
        for group in _grouped(
            members, lambda run: (run.label, *sorted(settings(run).items()))
        ).values():
            kept = _without_repeats(group, comparison.notes)
            comparison.lines += _lines(kept, members, comparison.notes)
        _warn_of_environment(members, comparison.notes)
        if all(run.origin == "2017" for run in members):
            comparison.title += ", 2017 code"
        names.name_lines(comparison)
        result.append(comparison)
    names.tell_apart(result)
    count: collections.Counter = collections.Counter()
    for comparison in result:
        count[comparison.slug] += 1
        if count[comparison.slug] > 1:
            comparison.slug += f"-{count[comparison.slug]}"
    return result


def _grouped(runs, key):
    """Runs by key, both in the order of the runs."""
    groups = collections.defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return groups


def _figure_key(run):
    key = {name: written(value) for name, value in architecture(run).items()}
    return (*key.items(), *(sorted(settings(run).items()) if run.tracked else ()))


def _warn_of_environment(members, notes):
    """Name what may differ besides hyperparameters: images, machines."""
    data = dict.fromkeys(run.about["data"] for run in members if "data" in run.about)
    if len(data) > 1:
        notes.append(f"the data differ: {'; '.join(data)}")
    for name in ("jit", "threads", "versions"):
        if len({str(run.about[name]) for run in members if name in run.about}) > 1:
            notes.append(f"{name} of the runs differ: their seconds cannot be compared")


def _without_repeats(runs, notes):
    """One run of each seed and trial: the longest, a folder rather than captured output."""
    kept: list[Run] = []
    for run in sorted(runs, key=lambda r: (-r.last, r.origin != "folder", r.path)):
        same = next((k for k in kept if _same(k, run)), None)
        if same is None:
            kept.append(run)
        else:
            seed = "" if run.seed is None else f", seed {run.seed}"
            notes.append(f"{run.path}: left out, the same run as {same.path} ({run.label}{seed})")
    return sorted(kept, key=lambda r: (str(r.replicate), r.path))


def _same(a, b):
    """Whether two logs are of one run; without a seed, whether one begins like the other."""
    if None not in (a.seed, b.seed):
        return a.replicate == b.replicate
    heads = [run.series("elbo").round(4).iloc[: min(len(a.steps), len(b.steps))] for run in (a, b)]
    return heads[0].equals(heads[1])


def _lines(runs, members, notes):
    """The line of some runs, or one for each method that they track."""
    broken = [run for run in runs if run.diverged]
    finite = [run for run in runs if not run.diverged] or runs
    reached = [run.last for run in finite if _done(run, members)]
    # Without a finished run, those that got far enough.
    least = max(reached, default=_LEAST_PART * max(run.last for run in finite))
    complete = [run for run in finite if run.last >= least]
    short = [run for run in finite if run not in complete]
    furthest = max(run.last for run in members)
    for run in short:
        notes.append(
            f"{run.path}: unfinished or cut short, step {run.last}{_of(run)}, where others reach "
            f"{furthest}; shown as a thin line and excluded from the mean"
        )
    for run in complete:
        if _of(run):
            notes.append(f"{run.path}: at step {run.last}{_of(run)}, unfinished")
    if finite is not runs:
        short += broken
        notes += [
            f"{run.path}: its ELBO is not finite; shown as a thin line and excluded from the mean"
            for run in broken
        ]
    first = complete[0]
    labels = dict.fromkeys([*first.labels, first.label] if first.tracked else [first.label])
    return [
        Line(
            label,
            label,
            settings(first),
            complete,
            short,
            **first.facts(label)._asdict(),
            trains=label == first.label,
        )
        for label in labels
    ]


def _done(run, members):
    return run.last >= (run.planned or max(other.last for other in members))


def _of(run):
    """ " of <planned steps>" if it has not reached these."""
    return f" of {run.planned}" if run.planned and run.last < run.planned else ""
