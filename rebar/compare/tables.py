"""compare.csv and compare.md: the numbers behind the figures."""

import csv
import dataclasses
import io
import math
import statistics
from collections.abc import Callable, Sequence

from rebar.compare import curves
from rebar.compare.curves import NOTHING, Value
from rebar.compare.groups import Comparison, Line
from rebar.errors import RebarError

_VALUES = {
    "train_elbo_final": lambda line: curves.last(line, "elbo"),
    "train_elbo_best": lambda line: curves.best(line, "elbo"),
    "valid_bound_final": lambda line: curves.last(line, "valid"),
    "valid_bound_best": lambda line: curves.best(line, "valid"),
    "test_bound_final": lambda line: curves.last(line, "test"),
    "test_bound_best": lambda line: curves.best(line, "test"),
    "test_bound_at_best_valid": lambda line: curves.best(line, "test", "valid"),
}
"""Columns that only lines have whose model was trained by the estimator: in nats, over seeds."""

_MEANING = """\
- Bounds are in nats an image; behind +- stands the standard error over seeds. *final*: at the last
  step that all seeds of the line have; *best*: each seed's highest; *at best valid*: the test bound
  where the validation bound is highest, which does not choose by test images.
- *variance* is that of the running estimate (EMA, minibatch noise included), *alone* that of the
  estimator at fixed parameters and images. Ratios are to {reference}, of means over the last tenth
  of the steps that both have; *equal cost*: times evaluations of f a step, since the mean of m
  estimates varies m times less. {where}
- *s / 1000 steps*: the median epoch, without evaluations, on the machine of the run.
- **biased** estimators follow another gradient: their variance is that of an estimate of something
  else.
"""
_APART = "Each line is measured along its own run, so at other parameters."
_TOGETHER = "All lines are measured along one run, at the same parameters."


@dataclasses.dataclass
class Row:
    """What the tables say of a line; see the columns of compare.csv in docs/compare.md."""

    figure: str
    line: Line
    steps: int
    values: dict[str, Value]
    variance: Value
    variance_ratio: Value
    estimator_variance: Value
    estimator_variance_ratio: Value
    cost_ratio: float
    seconds: Value
    reference: str

    def at_equal_cost(self, ratio: Value) -> Value:
        """A ratio of variances times the ratio of evaluations of f."""
        return Value(ratio.mean * self.cost_ratio, ratio.error * self.cost_ratio)


def find_reference(comparison: Comparison, label: str | None) -> tuple[Line, list[str]]:
    """The line that variances are compared with, and a sentence if it is not the one asked for.

    Args:
      label: of an estimator, or the name of a line; if None, the first unbiased one.
    """
    lines = comparison.lines
    unbiased = [line for line in lines if line.unbiased]
    default = (unbiased or lines)[0]
    if label is None:
        return default, []
    found = next((x for x in lines if label in (x.label, x.name)), None)
    if found is None:
        names = ", ".join(line.name for line in lines)
        return default, [f"no line {label} as reference: {default.name} instead; there are {names}"]
    return found, []


def rows(comparison: Comparison, reference: Line, part: str = "total") -> list[Row]:
    """A row for each line."""
    result = []
    for line in comparison.lines:
        costs = [line.evaluations, reference.evaluations]
        result.append(
            Row(
                comparison.slug,
                line,
                min(run.last for run in line.runs),
                {n: f(line) if line.trains else NOTHING for n, f in _VALUES.items()},
                curves.last(line, "variance"),
                curves.ratio(line, reference, "variance"),
                curves.last(line, "estimator_variance", part),
                curves.ratio(line, reference, "estimator_variance", part),
                costs[0] / costs[1] if all(costs) else math.nan,
                _seconds(line),
                reference.name,
            )
        )
    return result


def _seconds(line):
    """Seconds for 1000 steps of the run."""
    found = [run.seconds_per_step for run in line.runs]
    if None in found or not line.trains:
        return NOTHING
    error = statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    return Value(1000 * statistics.mean(found), 1000 * error)


def to_csv(comparisons: Sequence[Comparison], table: Sequence[Row]) -> bytes:
    """compare.csv: a line for each row, numbers in full, empty where there is none."""
    about = {comparison.slug: comparison for comparison in comparisons}
    records = []
    for row in table:
        line, comparison = row.line, about[row.figure]
        record = {
            "figure": row.figure,
            "task": comparison.task,
            "architecture": comparison.title,
            "trajectory_of": comparison.follow or line.label,
            "estimator": line.label,
            "line": line.name,
            "unbiased": {True: "yes", False: "no"}.get(line.unbiased, ""),
            "seeds": line.seeds,
            "unfinished_runs": len(line.short),
            "steps": row.steps,
        }
        numbers = {
            **row.values,
            "variance_final": row.variance,
            "variance_ratio": row.variance_ratio,
            "variance_ratio_equal_cost": row.at_equal_cost(row.variance_ratio),
            "estimator_variance_final": row.estimator_variance,
            "estimator_variance_ratio": row.estimator_variance_ratio,
            "estimator_variance_ratio_equal_cost": row.at_equal_cost(row.estimator_variance_ratio),
            "seconds_per_1000_steps": row.seconds,
        }
        for name, value in numbers.items():
            record |= {name: _full(value.mean), f"{name}_se": _full(value.error)}
        record |= {"evaluations_per_step": line.evaluations or "", "reference": row.reference}
        records.append(record)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def to_markdown(
    comparisons: Sequence[Comparison],
    table: Sequence[Row],
    drawn: Sequence[str],
    problems: Sequence[str],
) -> bytes:
    """compare.md: for each comparison its figure, table, and all that a reader must know.

    Args:
      drawn: slugs of the figures that were written.
      problems: sentences about what could not be read.
    """
    parts = ["# Comparison of gradient estimators"]
    if problems:
        parts += ["## Left out", _bullets(problems)]
    for comparison in comparisons:
        own = [row for row in table if row.figure == comparison.slug]
        parts.append(f"## {comparison.title}")
        if comparison.follow:
            parts.append(f"Variances along the trajectory of {comparison.follow}.")
        if comparison.slug in drawn:
            parts.append(f"![{comparison.title}]({comparison.slug}.png)")
        parts.append(_table(own))
        if comparison.notes:
            parts += ["Beware:", _bullets(comparison.notes)]
        where = _TOGETHER if comparison.follow else _APART
        parts.append(_MEANING.format(reference=own[0].reference, where=where).rstrip())
    return ("\n\n".join(parts) + "\n").encode()


def _bullets(sentences):
    return "\n".join(f"- {sentence}" for sentence in sentences)


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "estimator": lambda row: (
        row.line.name + (" **(biased)**" if row.line.unbiased is False else "")
    ),
    "seeds": lambda row: (
        str(row.line.seeds) + (f" + {len(row.line.short)} unfinished" if row.line.short else "")
    ),
    "steps": lambda row: str(row.steps),
    "train ELBO, final": lambda row: _bound(row.values["train_elbo_final"]),
    "best": lambda row: _bound(row.values["train_elbo_best"]),
    "test bound, final": lambda row: _bound(row.values["test_bound_final"]),
    "at best valid": lambda row: _bound(row.values["test_bound_at_best_valid"]),
    "log variance, final": lambda row: _log(row.variance),
    "variance, ratio": lambda row: _short(row.variance_ratio),
    "equal cost": lambda row: _short(row.at_equal_cost(row.variance_ratio)),
    "alone, ratio": lambda row: _short(row.estimator_variance_ratio),
    "alone, equal cost": lambda row: _short(row.at_equal_cost(row.estimator_variance_ratio)),
    "evaluations of f a step": lambda row: (
        f"{row.line.evaluations:g}" if row.line.evaluations else ""
    ),
    "s / 1000 steps": lambda row: _short(row.seconds),
}


def _table(own):
    """Columns that are empty in all rows are left out."""
    texts = {name: [write(row) for row in own] for name, write in _COLUMNS.items()}
    texts = {name: column for name, column in texts.items() if any(column)}
    head = [" | ".join(texts), " | ".join("---" for _ in texts)]
    body = [" | ".join(cells) for cells in zip(*texts.values(), strict=True)]
    return "\n".join(f"| {text} |" for text in [*head, *body])


def _full(value):
    return repr(float(value)) if math.isfinite(value) else ""


def _bound(value):
    if math.isnan(value.mean):
        return ""
    return f"{value.mean:.2f}" + (f" +- {value.error:.2f}" if math.isfinite(value.error) else "")


def _log(value):
    return f"{math.log(value.mean):.3f}" if value.mean > 0 else ""


def _short(value):
    if not math.isfinite(value.mean):
        return ""
    error = value.error
    return f"{value.mean:.3g}" + (f" +- {error:.1g}" if math.isfinite(error) and error > 0 else "")


def check_reference(label: str | None, comparisons: Sequence[Comparison]) -> None:
    """Raises RebarError if no comparison has such a line."""
    known = {x for c in comparisons for line in c.lines for x in (line.label, line.name)}
    if label is not None and label not in known:
        raise RebarError(f"reference={label}: choose from {', '.join(sorted(known))}")
