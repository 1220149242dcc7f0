"""compare.csv and compare.md: the numbers behind the figures."""

import math
from collections.abc import Sequence

import pandas as pd

from rebar.compare.groups import Comparison, Line
from rebar.errors import RebarError

_WINDOW = 0.1
"""Ratios of variances are of means over this last part of the steps that both lines have."""

_MEANING = """\
- Bounds are in nats per image; the number after +- is the standard error over seeds. *best*: each
  seed's highest; *at best valid*: the test bound where the validation bound is highest.
- *variance* is that of the running estimate (minibatch noise included), *conditional* that at fixed
  parameters and images. Ratios are to {reference}, over the last tenth of the common steps; *equal
  cost*: times the ratio of evaluations per step. Each line is measured along {trajectory}.
- **Biased** estimators have a different expected gradient, so their variance is not comparable."""
_COLUMNS = {
    "train_elbo_final": ("train ELBO, final", ".2f"),
    "train_elbo_best": ("best", ".2f"),
    "test_bound_final": ("test bound, final", ".2f"),
    "test_bound_at_best_valid": ("at best valid", ".2f"),
    "ln_variance_final": ("ln variance, final", ".3f"),
    "variance_ratio": ("variance, ratio", ".3g"),
    "variance_ratio_equal_cost": ("equal cost", ".3g"),
    "estimator_variance_ratio": ("conditional, ratio", ".3g"),
    "estimator_variance_ratio_equal_cost": ("conditional, equal cost", ".3g"),
    "evaluations_per_step": ("evaluations per step", "g"),
    "seconds_per_1000_steps": ("s / 1000 steps", ".3g"),
}
"""Column of compare.csv -> heading and format in compare.md."""


def mean(numbers: Sequence[float] | pd.Series = ()) -> tuple[float, float]:
    """Mean and standard error over seeds; NaN where there is none."""
    series = pd.Series(numbers, dtype=float)
    return series.mean(skipna=False), series.sem(skipna=False)


def pick(line: Line, name: str, highest: str | None = None) -> tuple[float, float]:
    """A quantity at the last step that all runs of a line have.

    Args:
      name: the quantity.
      highest: take the step of each run where this quantity is highest instead.
    """
    values = line.table(name)
    judge = line.table(highest).reindex(values.index) if highest else values
    if judge.isna().all().any() or values.empty:
        return mean()
    at = judge.idxmax() if highest else [values.index[-1]] * len(line.runs)
    return mean([values[run][step] for run, step in enumerate(at)])


def ratio(line: Line, reference: Line, name: str) -> tuple[float, float]:
    """A variance of a line over that of another, averaged over the end of what both have.

    The error is over seeds: of the ratios, if both were tracked in the same runs, else from the
    errors of both means to first order.
    """
    both = [one.table(name) for one in (line, reference)]
    common = both[0].index.intersection(both[1].index)
    common = common[common > (1 - _WINDOW) * common.max()]
    a, b = (values.loc[common].mean(skipna=False) for values in both)
    if not (a.mean() > 0 and b.mean() > 0):
        return mean()
    value = a.mean() / b.mean()
    if line.runs == reference.runs:
        return value, mean(a / b)[1]
    return value, value * math.hypot(*(error / middle for middle, error in (mean(a), mean(b))))


def rows(comparisons: Sequence[Comparison], label: str | None) -> pd.DataFrame:
    """A row for each line, with the columns of compare.csv (docs/compare.md).

    Args:
      label: estimator, or name of a line, that variances are divided by; if None, or if a
        comparison does not have it, the first unbiased one.

    Raises:
      RebarError: no comparison has such a line.
    """
    lines = [line for comparison in comparisons for line in comparison.lines]
    available = sorted({name for line in lines for name in (line.label, line.name)})
    if label is not None and label not in available:
        raise RebarError(f"reference={label}: choose from {', '.join(available)}")
    result = []
    for comparison in comparisons:
        lines = comparison.lines
        named = [line for line in lines if label in (line.label, line.name)]
        reference = [*named, *(line for line in lines if line.unbiased), lines[0]][0]
        result += [_row(comparison, line, reference) for line in lines]
    return pd.DataFrame(result)


def _row(comparison, line, reference):
    costs = line.evaluations, reference.evaluations
    price = costs[0] / costs[1] if all(costs) else math.nan
    seconds = [run.series("seconds") / run.x("steps").diff() * 1000 for run in line.runs]
    row = {
        "figure": comparison.slug,
        "task": line.runs[0].settings.get("task", ""),
        "architecture": comparison.title,
        "trajectory_of": comparison.follow or line.label,
        "estimator": line.label,
        "line": line.name,
        "unbiased": {True: "yes", False: "no"}.get(line.unbiased, ""),
        "seeds": len(line.runs),
        "unfinished_runs": len(line.short),
        "steps": min(run.last for run in line.runs),
        "evaluations_per_step": line.evaluations,
        "reference": reference.name,
    }
    numbers = {"seconds_per_1000_steps": mean([one.median() for one in seconds])}
    for name, column in (("elbo", "train_elbo"), ("valid", "valid_bound"), ("test", "test_bound")):
        numbers[f"{column}_final"] = pick(line, name)
        numbers[f"{column}_best"] = pick(line, name, name)
    numbers["test_bound_at_best_valid"] = pick(line, "test", "valid")
    if not line.trains:
        numbers = dict.fromkeys(numbers, mean())
    for name in ("variance", "estimator_variance/total"):
        column = name.removesuffix("/total")
        numbers[f"{column}_final"] = pick(line, name)
        relative = numbers[f"{column}_ratio"] = ratio(line, reference, name)
        numbers[f"{column}_ratio_equal_cost"] = [value * price for value in relative]
    for name, (value, error) in numbers.items():
        row |= {name: value, f"{name}_se": error}
    return row


def to_markdown(
    comparisons: Sequence[Comparison],
    table: pd.DataFrame,
    drawn: Sequence[str],
    problems: Sequence[str],
) -> str:
    """compare.md: for each comparison its figure, table and notes.

    Args:
      table: see `rows`.
      drawn: slugs of the figures that were written.
      problems: sentences about what could not be read.
    """
    parts = ["# Comparison of gradient estimators"]
    parts += ["## Left out", "\n".join(f"- {text}" for text in problems)] * bool(problems)
    for comparison in comparisons:
        lines = table[table.figure == comparison.slug]
        parts.append(f"## {comparison.title}")
        if comparison.slug in drawn:
            parts.append(f"![{comparison.title}]({comparison.slug}.png)")
        parts.append(_table(lines))
        notes = "\n".join(f"- {note}" for note in comparison.notes)
        parts += ["Notes:", notes] * bool(notes)
        trajectory = f"the run of {comparison.follow}" if comparison.follow else "its own run"
        parts.append(_MEANING.format(reference=lines.reference.iloc[0], trajectory=trajectory))
    return "\n\n".join(parts) + "\n"


def _table(lines):
    """A row per line; columns without any number are left out."""
    unfinished = lines.unfinished_runs.map(lambda n: f" + {n} unfinished" if n else "")
    texts = {
        "estimator": lines.line + lines.unbiased.map(lambda u: " **(biased)**" * (u == "no")),
        "seeds": lines.seeds.astype(str) + unfinished,
        "steps": lines.steps.astype(str),
    }
    positive = lines.variance_final.where(lines.variance_final > 0)
    lines = lines.assign(ln_variance_final=positive.map(math.log, na_action="ignore"))
    for name, (heading, form) in _COLUMNS.items():
        numbers = lines[name].astype(float)
        errors = lines.get(f"{name}_se", numbers * math.nan)
        column = numbers.map(f"{{:{form}}}".format).where(numbers.notna(), "")
        error_form = form if form == ".2f" else ".1g"
        column += errors.map(f" +- {{:{error_form}}}".format).where(errors.notna(), "")
        texts |= {heading: column} if column.any() else {}
    cells = [[*texts], ["---"] * len(texts), *zip(*texts.values(), strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
