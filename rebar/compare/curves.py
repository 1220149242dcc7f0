"""Means over seeds and their standard errors: what is drawn, and what the tables contain."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from rebar.compare.groups import Line

WINDOW = 0.1
"""Ratios of variances are of means over this last part of the steps that both lines have."""


class Value(NamedTuple):
    """A number with its standard error over seeds; NaN where there is none."""

    mean: float = math.nan
    error: float = math.nan

    def times(self, factor: float) -> "Value":
        """The product with an exact number."""
        return Value(self.mean * factor, self.error * factor)


def table(line: Line, quantity: str) -> pd.DataFrame:
    """A row for each step that all runs of a line have, a column for each run."""
    series = [run.series(quantity, line.label) for run in line.runs]
    return pd.concat(series, axis=1, join="inner", ignore_index=True).sort_index()


def curve(
    line: Line, quantity: str, kind: str = "steps", cost: float | None = None
) -> pd.DataFrame | None:
    """The mean of a line; None if its runs have no such values at common steps.

    Args:
      quantity: see `rebar.compare.read`.
      kind, cost: of the axis, see `Run.x`; all runs must have it.

    Returns:
      By step: "x" (mean position on the axis), "mean" (NaN where a run's value is not finite) and
      "error" (standard error of the mean, NaN for one run).
    """
    values = table(line, quantity)
    if values.empty:
        return None
    x = pd.concat([run.x(kind, cost) for run in line.runs], axis=1).mean(axis=1)
    mean = values.mean(axis=1, skipna=False)
    error = values.sem(axis=1, skipna=False)
    return pd.DataFrame({"x": x.reindex(values.index), "mean": mean, "error": error})


def edges(found: pd.DataFrame, log: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The middle, the lower and the upper edge of a band.

    Args:
      found: from `curve`.
      log: take the natural logarithm: of the mean, and of the mean minus and plus its error.
    """
    mean, error = found["mean"].to_numpy(), found["error"].to_numpy()
    bands = mean, mean - error, mean + error
    if not log:
        return bands
    with np.errstate(divide="ignore", invalid="ignore"):
        return tuple(np.log(np.where(band > 0, band, math.nan)) for band in bands)


def last(line: Line, quantity: str) -> Value:
    """The value at the last step that all runs of a line have."""
    values = table(line, quantity)
    return Value() if values.empty else value(values.iloc[-1])


def best(line: Line, quantity: str, chosen_by: str | None = None) -> Value:
    """The highest value of each run, then the mean.

    Args:
      quantity: whose value is returned.
      chosen_by: the quantity whose highest value determines the step, if it is another one.
    """
    found = []
    for run in line.runs:
        values = run.series(quantity)
        judge = run.series(chosen_by or quantity).dropna()
        judge = judge[judge.index.isin(values.index)]
        if judge.empty:
            return Value()
        found.append(values[judge.idxmax()])
    return value(found)


def ratio(line: Line, reference: Line, quantity: str) -> Value:
    """A variance of a line over that of another, averaged over the end of what both have.

    The error is over seeds: of the ratios, if both were tracked in the same runs, else from the
    errors of both means to first order.
    """
    both = [table(one, quantity) for one in (line, reference)]
    common = both[0].index.intersection(both[1].index)
    if not len(common):
        return Value()
    common = common[common > (1 - WINDOW) * common[-1]]
    a, b = (one.loc[common].mean(skipna=False) for one in both)
    if not b.mean() > 0:
        return Value()
    mean = a.mean() / b.mean()
    if line.runs == reference.runs:
        return Value(mean, value(a / b).error)
    relative = [one.error / one.mean if one.mean > 0 else math.nan for one in map(value, (a, b))]
    return Value(mean, mean * math.hypot(*relative))


def value(numbers) -> Value:
    """Mean and standard error of some numbers."""
    series = pd.Series(numbers, dtype=float)
    return Value(series.mean(skipna=False), series.sem(skipna=False))
