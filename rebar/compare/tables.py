"""compare.csv and compare.md: the numbers behind the figures."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from rebar.compare import curves
from rebar.compare.curves import Value
from rebar.compare.figures import quantity
from rebar.compare.groups import Comparison, Line
from rebar.errors import RebarError

_BOUNDS = {
    "train_elbo_final": lambda line: curves.last(line, "elbo"),
    "train_elbo_best": lambda line: curves.best(line, "elbo"),
    "valid_bound_final": lambda line: curves.last(line, "valid"),
    "valid_bound_best": lambda line: curves.best(line, "valid"),
    "test_bound_final": lambda line: curves.last(line, "test"),
    "test_bound_best": lambda line: curves.best(line, "test"),
    "test_bound_at_best_valid": lambda line: curves.best(line, "test", "valid"),
}
"""Columns of lines whose model was trained by the estimator: nats, over seeds."""

_MEANING = """\
- Bounds are in nats per image; the number after +- is the standard error over seeds. *final*: at
  the last step that all seeds of the line have; *best*: each seed's highest; *at best valid*: the
  test bound where the validation bound is highest, a choice that does not use test images.
- *variance* is that of the running estimate (EMA, minibatch noise included), *conditional* that of
  the estimator at fixed parameters and images. Ratios are to {reference}, of means over the last
  tenth of the steps that both have; *equal cost*: multiplied by the ratio of evaluations per step,
  since the mean of m estimates has 1/m of the variance. {where}
- *s / 1000 steps*: the median epoch, without evaluations, on the machine of the run.
- **biased** estimators follow another gradient: their variance is that of an estimate of something
  else.
"""
_APART = "Each line is measured along its own run, so at other parameters."
_TOGETHER = "All lines are measured along one run, at the same parameters."


def find_reference(comparison: Comparison, label: str | None) -> tuple[Line, list[str]]:
    """The line that variances are compared with, and a sentence if it is not the one asked for.

    Args:
      label: of an estimator, or the name of a line; if None, the first unbiased one.
    """
    lines = comparison.lines
    default = next((line for line in lines if line.unbiased), lines[0])
    if label is None:
        return default, []
    found = next((x for x in lines if label in (x.label, x.name)), None)
    if found is None:
        names = ", ".join(line.name for line in lines)
        return default, [f"reference={label}: not available, {default.name} is used; have {names}"]
    return found, []


def check_reference(label: str | None, comparisons: Sequence[Comparison]) -> None:
    """Raises RebarError if no comparison has such a line."""
    known = {x for c in comparisons for line in c.lines for x in (line.label, line.name)}
    if label is not None and label not in known:
        raise RebarError(f"reference={label}: choose from {', '.join(sorted(known))}")


def rows(comparison: Comparison, reference: Line, part: str = "total") -> pd.DataFrame:
    """A row for each line, with the columns of compare.csv (docs/compare.md)."""
    result = []
    for line in comparison.lines:
        costs = line.evaluations, reference.evaluations
        price = costs[0] / costs[1] if all(costs) else math.nan
        conditional = quantity("estimator_variance", part)
        ratio = curves.ratio(line, reference, "variance")
        conditional_ratio = curves.ratio(line, reference, conditional)
        numbers = {
            **{name: bound(line) if line.trains else Value() for name, bound in _BOUNDS.items()},
            "variance_final": curves.last(line, "variance"),
            "variance_ratio": ratio,
            "variance_ratio_equal_cost": ratio.times(price),
            "estimator_variance_final": curves.last(line, conditional),
            "estimator_variance_ratio": conditional_ratio,
            "estimator_variance_ratio_equal_cost": conditional_ratio.times(price),
            "seconds_per_1000_steps": _seconds(line),
        }
        row: dict[str, Any] = {
            "figure": comparison.slug,
            "task": comparison.task,
            "architecture": comparison.title,
            "trajectory_of": comparison.follow or line.label,
            "estimator": line.label,
            "line": line.name,
            "unbiased": {True: "yes", False: "no"}.get(line.unbiased, ""),
            "seeds": line.seeds,
            "unfinished_runs": len(line.short),
            "steps": min(run.last for run in line.runs),
        }
        for name, value in numbers.items():
            row |= {name: value.mean, f"{name}_se": value.error}
        row |= {"evaluations_per_step": line.evaluations, "reference": reference.name}
        result.append(row)
    return pd.DataFrame(result)


def _seconds(line):
    """Seconds per 1000 steps."""
    times = [run.seconds_per_step for run in line.runs]
    return curves.value(times).times(1000) if line.trains else Value()


def to_csv(table: pd.DataFrame) -> bytes:
    """compare.csv: numbers in full, empty where there is none or it is not finite."""
    finite = table.replace([math.inf, -math.inf], math.nan)
    return finite.to_csv(index=False, lineterminator="\n").encode()


def to_markdown(
    comparisons: Sequence[Comparison],
    table: pd.DataFrame,
    drawn: Sequence[str],
    problems: Sequence[str],
) -> bytes:
    """compare.md: for each comparison its figure, table and notes.

    Args:
      table: rows of all comparisons.
      drawn: slugs of the figures that were written.
      problems: sentences about what could not be read.
    """
    parts = ["# Comparison of gradient estimators"]
    if problems:
        parts += ["## Left out", _bullets(problems)]
    for comparison in comparisons:
        own = table[table.figure == comparison.slug].to_dict("records")
        parts.append(f"## {comparison.title}")
        if comparison.follow:
            parts.append(f"Variances along the trajectory of {comparison.follow}.")
        if comparison.slug in drawn:
            parts.append(f"![{comparison.title}]({comparison.slug}.png)")
        parts.append(_table(own))
        if comparison.notes:
            parts += ["Notes:", _bullets(comparison.notes)]
        where = _TOGETHER if comparison.follow else _APART
        parts.append(_MEANING.format(reference=own[0]["reference"], where=where).rstrip())
    return ("\n\n".join(parts) + "\n").encode()


def _bullets(sentences):
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _bound(name: str) -> Callable[[Mapping], str]:
    return lambda row: _number(row[name], row[f"{name}_se"], ".2f", ".2f")


def _short(name: str) -> Callable[[Mapping], str]:
    return lambda row: _number(row[name], row[f"{name}_se"] or math.nan, ".3g", ".1g")


def _number(mean, error, format, error_format):
    if not math.isfinite(mean):
        return ""
    return f"{mean:{format}}" + (f" +- {error:{error_format}}" if math.isfinite(error) else "")


_COLUMNS: dict[str, Callable[[Mapping], str]] = {
    "estimator": lambda row: row["line"] + " **(biased)**" * (row["unbiased"] == "no"),
    "seeds": lambda row: (
        f"{row['seeds']}" + f" + {row['unfinished_runs']} unfinished" * bool(row["unfinished_runs"])
    ),
    "steps": lambda row: str(row["steps"]),
    "train ELBO, final": _bound("train_elbo_final"),
    "best": _bound("train_elbo_best"),
    "test bound, final": _bound("test_bound_final"),
    "at best valid": _bound("test_bound_at_best_valid"),
    "ln variance, final": lambda row: (
        f"{math.log(row['variance_final']):.3f}" if row["variance_final"] > 0 else ""
    ),
    "variance, ratio": _short("variance_ratio"),
    "equal cost": _short("variance_ratio_equal_cost"),
    "conditional, ratio": _short("estimator_variance_ratio"),
    "conditional, equal cost": _short("estimator_variance_ratio_equal_cost"),
    "evaluations per step": lambda row: (
        f"{row['evaluations_per_step']:g}" if row["evaluations_per_step"] > 0 else ""
    ),
    "s / 1000 steps": _short("seconds_per_1000_steps"),
}


def _table(own):
    """Columns that are empty in all rows are left out."""
    own = [{**row, "evaluations_per_step": row["evaluations_per_step"] or 0} for row in own]
    texts = {name: [write(row) for row in own] for name, write in _COLUMNS.items()}
    texts = {name: column for name, column in texts.items() if any(column)}
    head = [" | ".join(texts), " | ".join("---" for _ in texts)]
    body = [" | ".join(cells) for cells in zip(*texts.values(), strict=True)]
    return "\n".join(f"| {text} |" for text in [*head, *body])
