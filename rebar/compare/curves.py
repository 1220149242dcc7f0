"""Means over seeds and their standard errors: what is drawn, and what stands in the tables."""

import math
from typing import NamedTuple

import numpy as np

from rebar.compare.groups import Line

WINDOW = 0.1
"""Ratios of variances are of means over this last part of the steps that both lines have."""


class Curve(NamedTuple):
    """A quantity of a line along training, all arrays of one length.

    Attributes:
      steps: at which every run has a value.
      x: where these lie on the axis, the mean over runs.
      mean: over runs; NaN where a run's value is not finite.
      error: standard error of the mean, NaN for one run.
    """

    steps: np.ndarray
    x: np.ndarray
    mean: np.ndarray
    error: np.ndarray


class Value(NamedTuple):
    """A number with its standard error over seeds; NaN where there is none."""

    mean: float
    error: float


NOTHING = Value(math.nan, math.nan)


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over axis 0 and its standard error, std(ddof=1) / sqrt(n); NaN errors for n = 1."""
    n = len(values)
    mean = np.mean(values, axis=0)
    if n < 2:
        return mean, np.full_like(mean, math.nan)
    return mean, np.std(values, axis=0, ddof=1) / math.sqrt(n)


def table(line: Line, column: str, part: str = "total") -> tuple[np.ndarray, np.ndarray]:
    """The steps at which all runs of a line have a column, and its values [runs, steps]."""
    series = [run.series(column, line.label, part) for run in line.runs]
    steps = sorted(set.intersection(*map(set, series))) if series else []
    return np.array(steps, int), np.array([[s[t] for t in steps] for s in series])


def curve(
    line: Line, column: str, part: str = "total", kind: str = "steps", cost: float | None = None
) -> Curve | None:
    """The mean of a line; None if its runs have no such values at common steps.

    Args:
      column, part: see `RunLog.series`.
      kind, cost: of the axis, see `RunLog.x`; all runs must have what it takes.
    """
    steps, values = table(line, column, part)
    if not len(steps):
        return None
    places = [run.x(kind, cost) for run in line.runs]
    x = np.mean([[place[t] for t in steps] for place in places], axis=0)
    return Curve(steps, x, *mean_and_error(values))


def drawn(found: Curve, log: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What stands in a figure: the middle, the lower and the upper edge of the band.

    Args:
      log: draw the logarithm: of the mean, and of the mean with its error taken off and added.
    """
    edges = found.mean, found.mean - found.error, found.mean + found.error
    if not log:
        return edges
    with np.errstate(divide="ignore", invalid="ignore"):
        return tuple(np.log(np.where(edge > 0, edge, math.nan)) for edge in edges)


def last(line: Line, column: str, part: str = "total") -> Value:
    """At the last step that all runs of a line have."""
    steps, values = table(line, column, part)
    if not len(steps):
        return NOTHING
    return _value(values[:, -1])


def best(line: Line, column: str, chosen_by: str | None = None) -> Value:
    """The highest value of each run, then the mean.

    Args:
      column: of which the value is wanted.
      chosen_by: the column whose highest value tells the step, if it is another one.
    """
    found = []
    for run in line.runs:
        wanted = run.series(column, line.label)
        judge = run.series(chosen_by or column, line.label)
        steps = [t for t in wanted if t in judge and math.isfinite(judge[t])]
        if not steps:
            return NOTHING
        found.append(wanted[max(steps, key=judge.__getitem__)])
    return _value(np.array(found))


def ratio(line: Line, reference: Line, column: str, part: str = "total") -> Value:
    """A variance of a line over that of another, averaged over the end of what both have.

    The error is over seeds: of the ratios, if both were tracked in the same runs, else from the
    errors of both means to first order.
    """
    a, b = _window(line, reference, column, part)
    if a is None:
        return NOTHING
    mean = float(np.mean(a) / np.mean(b)) if np.mean(b) > 0 else math.nan
    if line.runs == reference.runs:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return Value(mean, _value(a / b).error)
    errors = [_value(v) for v in (a, b)]
    relative = math.sqrt(sum((v.error / v.mean) ** 2 for v in errors)) if mean > 0 else math.nan
    return Value(mean, mean * relative)


def _window(line, reference, column, part):
    """The mean of each run of both lines over the last part of their common steps."""
    (steps, values), (others, theirs) = (table(x, column, part) for x in (line, reference))
    common = np.intersect1d(steps, others)
    if not len(common):
        return None, None
    common = common[common > (1 - WINDOW) * common[-1]]
    return (
        np.mean(values[:, np.isin(steps, common)], axis=1),
        np.mean(theirs[:, np.isin(others, common)], axis=1),
    )


def _value(values):
    mean, error = mean_and_error(values)
    return Value(float(mean), float(error))
