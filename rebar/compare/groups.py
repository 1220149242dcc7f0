"""Which runs belong together.

    comparison    runs of one task and architecture: a figure and a table; a tracking run is one of
                  its own, since its variances are all on the trajectory of the estimator followed
    line          runs of one estimator with the same settings, over seeds: a mean and its error

Seed and trial are what seeds of a line differ in. Anything else that differs makes another line,
and is in its name.
"""

import collections
import dataclasses
from typing import Any

from rebar import registry
from rebar.compare import names
from rebar.compare.facts import Facts
from rebar.compare.names import architecture, frozen, settings
from rebar.compare.runs import RunLog

_LEAST_PART = 0.5
"""Where no run of a line is finished, those that got this far beside the furthest make its mean."""


@dataclasses.dataclass
class Line:
    """One estimator with one set of settings.

    Attributes:
      label: of the estimator.
      name: label, and the settings in which it differs from other lines of the comparison.
      settings: name -> value of all of them.
      runs: those that the mean is of, one a seed.
      short: those that ended, or are, before the others.
      unbiased, evaluations: see `Facts`.
      trains: whether the model was trained by it (not: only its variance tracked).
    """

    label: str
    name: str
    settings: dict[str, Any]
    runs: list[RunLog]
    short: list[RunLog]
    unbiased: bool | None = None
    evaluations: float | None = None
    trains: bool = True

    @property
    def seeds(self) -> int:
        """How many runs the mean is of."""
        return len(self.runs)


@dataclasses.dataclass
class Comparison:
    """What is drawn in one figure.

    Attributes:
      slug: name of its files.
      task: of all runs; "" if it is not known.
      title: task and architecture.
      follow: label of the estimator that trains, in a tracking run; else None.
      lines: in the order of the registry.
      notes: a sentence for each thing a reader must know.
    """

    slug: str
    task: str
    title: str
    follow: str | None
    lines: list[Line]
    notes: list[str]


def comparisons(runs: list[RunLog], facts: Facts) -> list[Comparison]:
    """Group runs; see the module. Sorted by task and architecture, then tracking runs."""
    figures = collections.defaultdict(list)
    for run in runs:
        figures[frozen(_figure_key(run))].append(run)
    result = []
    for key in sorted(figures):
        members = figures[key]
        comparison = Comparison(names.slug(members[0]), *names.heading(members[0]), [], [])
        for run in members:
            comparison.notes += [f"{run.path}: {note}" for note in [*run.notes, *run.nonfinite()]]
        by_line = _by_line(members, comparison.notes)
        _warn_of_surroundings(members, comparison.notes)
        for known, group in by_line:
            comparison.lines += _lines(known, group, members, comparison.notes, facts)
        comparison.lines.sort(key=_order)
        if all(run.origin == "2017" for run in members):
            comparison.title += ", 2017 code"
        names.name_lines(comparison)
        result.append(comparison)
    names.tell_apart(result)
    taken: collections.Counter = collections.Counter()
    for comparison in result:
        taken[comparison.slug] += 1
        if taken[comparison.slug] > 1:
            comparison.slug += f"-{taken[comparison.slug]}"
    return result


def _figure_key(run):
    key: dict[str, Any] = {"known": bool(run.hparams), **architecture(run)}
    if run.tracked:
        key |= {"tracked": True, **settings(run)}
    return key


def _by_line(members, notes):
    """(settings, runs) of each line, repeats left out."""
    groups = collections.defaultdict(list)
    for run in members:
        groups[(run.label, frozen(settings(run)))].append(run)
    result = []
    for runs in groups.values():
        # What not every log says must not differ among those that say it.
        parts = [(settings(runs[0]), runs)]
        for name, value in zip(names.OPTIONAL, (lambda r: r.eval_samples, _data), strict=True):
            parts = [part for s, group in parts for part in _split(s, group, name, value)]
        result += [(s, _without_repeats(group, notes)) for s, group in parts]
    return result


def _split(known, runs, name, value):
    """Cut runs by a value that may be None; those without one go with the first."""
    values = list(dict.fromkeys(value(run) for run in runs if value(run) is not None))
    if not values:
        return [(known, runs)]
    return [
        (
            {**known, name: one},
            [r for r in runs if value(r) == one or (value(r) is None and one == values[0])],
        )
        for one in values
    ]


def _data(run):
    return run.about.get("data")


def _warn_of_surroundings(members, notes):
    """Name what may differ beside hyperparameters: images, machines."""
    data = {_data(run) for run in members} - {None}
    if len(data) > 1:
        notes.append("the data differ: " + "; ".join(sorted(data)))
    for name in ("threads", "versions"):
        if len({frozen(run.about[name]) for run in members if name in run.about}) > 1:
            notes.append(f"{name} of the runs differ: their seconds cannot be compared")


def _without_repeats(runs, notes):
    """One run of each seed and trial: the longest, a folder rather than captured output."""
    kept: list[RunLog] = []
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
    values = [[(r["step"], _short(r.get("elbo"))) for r in run.records] for run in (a, b)]
    n = min(map(len, values))
    return values[0][:n] == values[1][:n]


def _short(value):
    return round(value, 4) if isinstance(value, float) else value


def _lines(known, runs, members, notes, facts):
    """The line of some runs, or one for each method that they track."""
    sound = [run for run in runs if not run.diverged] or runs
    whole, short = _finished(sound, members)
    notes += [_why_short(run, members) for run in short]
    for run in whole:
        if run.planned and run.last < run.planned:
            notes.append(f"{run.path}: at step {run.last} of {run.planned}, unfinished")
    if len(sound) < len(runs):
        broken = [run for run in runs if run.diverged]
        notes += [
            f"{run.path}: its ELBO is not finite; drawn thin, not in the mean" for run in broken
        ]
        short = short + broken
    first = whole[0]
    found = facts(first)
    labels = first.labels if first.tracked else [first.label]
    if first.label not in labels:
        labels = [*labels, first.label]
    return [
        Line(label, label, known, whole, short, **found[label], trains=label == first.label)
        for label in labels
    ]


def _why_short(run, members):
    end = f" of {run.planned}" if run.planned and run.last < run.planned else ""
    others = max(r.last for r in members if r is not run)
    return (
        f"{run.path}: unfinished or cut short, step {run.last}{end}, where {others} is reached by "
        "others; drawn thin, not in the mean"
    )


def _finished(runs, members):
    """(runs that make the mean, the others) of a line, given all runs of the figure."""

    def done(run):
        return run.last >= (run.planned or max(r.last for r in members))

    furthest = max((r.last for r in runs if done(r)), default=None)
    if furthest is None:
        furthest = _LEAST_PART * max(r.last for r in runs)
        whole = [r for r in runs if r.last >= furthest]
    else:
        whole = [r for r in runs if done(r) and r.last >= furthest]
    return whole, [r for r in runs if r not in whole]


def _order(line):
    labels = list(registry.all_labels())
    position = labels.index(line.label) if line.label in labels else len(labels)
    return position, line.label, frozen(line.settings)
