"""Figures and tables from the logs of many runs, without TensorFlow.

frame = rebar.compare.read("runs")
elbo = frame[frame.quantity == "elbo"]
elbo.groupby(["model", "step"]).value.agg(["mean", "sem"])
"""

import os
import warnings
from collections.abc import Iterable

X = {
    "steps": "training steps",
    "epochs": "epochs",
    "seconds": "training time (seconds)",
    "evaluations": "evaluations of f",
}
"""Unit of the horizontal axis of a figure -> its label."""

PANELS = ("variance", "elbo", "test", "estimator_variance/total")
"""Panels that are drawn by default."""


def read(paths: str | os.PathLike | Iterable[str | os.PathLike]):
    """Read runs as one tidy pandas data frame.

    Args:
      paths: folders of runs, folders that contain these, globs, or files with captured output.

    Returns:
      One row per run, step, estimator and quantity. Columns: run, step, estimator, quantity,
      value, then origin ("folder", "stdout" or "2017"), seed, data, unbiased and evaluations (per
      training step) of the estimator, and all hyperparameters. Quantities are named as in
      metrics.jsonl, except: "variance" and "variance_q" are not logarithms, and the parts of
      estimator_variance are "estimator_variance/total", "estimator_variance/q" and so on. A value
      that was not finite is NaN.

    Raises:
      RebarError: no run can be read; if only some paths are not runs, a UserWarning names them.
    """
    from rebar.compare import reading, runs

    paths = [paths] if isinstance(paths, str | os.PathLike) else paths
    logs, problems = reading.read(map(os.fspath, paths))
    for problem in problems:
        warnings.warn(f"left out: {problem}", stacklevel=2)
    return runs.frame(logs)
