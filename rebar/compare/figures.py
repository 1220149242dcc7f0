"""The figure of a comparison: panels with a line for each estimator, as in the papers.

    variance             log of the running variance of the gradient
    elbo                 train ELBO
    test                 multi-sample bound of the test images
    estimator_variance   log of the variance of the estimator alone, at fixed parameters and images

Variances are averaged over seeds before the logarithm. matplotlib is imported where a figure is
made, and never by way of pyplot: no display is needed.
"""

import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rebar import styles
from rebar.compare import curves
from rebar.compare.groups import Comparison, Line
from rebar.compare.runs import X, is_number
from rebar.errors import RebarError

PANELS = ("variance", "elbo", "test", "estimator_variance")
"""Those that are drawn if nothing else is asked for."""

_LOGARITHMS = ("variance", "estimator_variance")
_NO_PANEL = ("step", "epoch", "log_variance", "eval_samples", "variance_draws")
_SUFFIXES = (".png", ".pdf")
_WIDTH, _HEIGHT = 4.1, 2.9
_EARLY = 0.1
"""The first part of an axis, which limits leave out of account: all begins far off."""

_FROM_ZERO = 0.4
"""An axis begins at 0 unless so much of it would be empty, as where compiling took longest."""

_FEW = 15
"""Where no line has more points, all of them are shown."""

_RC = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,
    "text.parse_math": False,
}


class Axis(NamedTuple):
    """What a figure is drawn against: kind, one of `runs.X`; factor and label of its unit."""

    kind: str
    factor: float
    label: str


def columns(comparison: Comparison) -> list[str]:
    """Names that a panel can have here: the usual ones, then other numbers of the records."""
    found = dict.fromkeys(n for n in PANELS if any(_has(line, n) for line in comparison.lines))
    for line in comparison.lines:
        for record in (r for run in line.runs for r in run.records):
            found |= dict.fromkeys(n for n, v in record.items() if is_number(v))
    return [name for name in found if name not in _NO_PANEL]


def _has(line, column: str, part: str = "total") -> bool:
    """Whether a run of the line has numbers for a panel."""
    return any(run.series(column, line.label, part) for run in _all(line))


def choose_panels(
    comparison: Comparison, asked: Sequence[str], part: str = "total"
) -> tuple[list[str], list[str]]:
    """The panels that can be drawn of those asked for, and a sentence for each that cannot."""
    panels, notes = [], []
    for name in dict.fromkeys(asked):
        found = [_has(line, name, part) for line in comparison.lines]
        if any(found):
            panels.append(name)
            missing = [
                line.name
                for line, one in zip(comparison.lines, found, strict=True)
                if not one and (line.trains or name in _LOGARITHMS)
            ]
            if missing:
                notes.append(f"no {name} in the logs of {', '.join(missing)}")
        elif name == "estimator_variance":
            parts = _parts(comparison)
            notes.append(
                f"part={part}: no such part of the estimator's variance; there are "
                f"{', '.join(parts)}"
                if parts
                else "no run measured the variance of the estimator alone (--variance_freq of the "
                "train command): no such panel"
            )
        else:
            known = ", ".join(columns(comparison))
            notes.append(f"no {name} in the logs: no such panel; there are {known}")
    return panels, notes


def _parts(comparison):
    """Parts of the variance of the estimators that were measured."""
    tables = [
        table
        for line in comparison.lines
        for run in _all(line)
        for record in run.records
        for table in (record.get("estimator_variance") or {}).values()
    ]
    known = ("total", "p", "q")
    return sorted({n for table in tables for n in table if n in known or n.startswith("q_")})


def choose_axis(comparison: Comparison, kind: str) -> tuple[Axis, list[str]]:
    """The axis asked for, or steps and a sentence that says why."""
    if kind not in X:
        raise RebarError(f"x={kind}: choose from {', '.join(X)}")
    lacking = [
        run.path
        for line in comparison.lines
        for run in _all(line)
        if run.x(kind, cost(comparison, line)) is None
    ]
    if lacking:
        told = ", ".join(dict.fromkeys(lacking))
        return Axis("steps", 1, "steps"), [
            f"not drawn against {kind} but against steps, since these logs do not say: {told}"
        ]
    if kind == "seconds":
        longest = max(max(run.x(kind).values()) for line in comparison.lines for run in _all(line))
        for name, size in (("hours", 3600), ("minutes", 60)):
            if longest > 3 * size:
                return Axis(kind, 1 / size, f"training time ({name})"), []
        return Axis(kind, 1, "training time (seconds)"), []
    return Axis(kind, 1, {"evaluations": "evaluations of f"}.get(kind, kind)), []


def cost(comparison: Comparison, line: Line) -> float | None:
    """Evaluations of f for one step of the training that a line is part of."""
    trainer = next((one for one in comparison.lines if one.trains), line)
    return trainer.evaluations if comparison.follow else line.evaluations


def figure(comparison: Comparison, panels: Sequence[str], axis: Axis, part: str = "total") -> Any:
    """The figure as a matplotlib Figure.

    Args:
      panels, axis: as chosen by `choose_panels` and `choose_axis`; at least one panel.
      part: of the variance of the estimator alone.
    """
    import matplotlib
    from matplotlib.figure import Figure

    n = len(panels)
    n_columns = n if n < 4 else 2 if n == 4 else 3
    n_rows = math.ceil(n / n_columns)
    looks = styles.styles([line.label for line in comparison.lines])
    with matplotlib.rc_context(_RC):
        size = (max(_WIDTH * n_columns, 5.5), _HEIGHT * n_rows + 1.1)
        made = Figure(figsize=size, layout="constrained")
        grid = made.subplots(n_rows, n_columns, squeeze=False)
        for place, name in zip(grid.flat, panels, strict=False):
            _panel(place, comparison, looks, name, axis, part)
        for place in list(grid.flat)[n:]:
            place.remove()
        made.suptitle(f"{comparison.title[0].upper()}{comparison.title[1:]}", fontsize=11)
        handles = [_handle(*pair) for pair in zip(comparison.lines, looks, strict=True)]
        made.legend(
            handles=handles,
            loc="outside lower center",
            ncols=_legend_columns([handle.get_label() for handle in handles], size[0]),
            frameon=False,
            title=_caption(comparison),
            title_fontsize=8,
        )
    return made


def _legend_columns(names, inches):
    """As few rows as fit, about equally long."""
    widths = [0.65 + 0.075 * len(name) for name in names]
    rows = 1 if sum(widths) < inches else math.ceil(len(names) / max(1, inches // max(widths)))
    return math.ceil(len(names) / rows)


def _panel(place, comparison, looks, name, axis, part):
    from matplotlib.ticker import EngFormatter

    log = name in _LOGARITHMS
    extent: list = []
    for line, look in zip(comparison.lines, looks, strict=True):
        if not line.trains and not log:
            continue
        price = cost(comparison, line)
        options = {"color": look.colour, "linestyle": _dash(line), "solid_capstyle": "round"}
        for run in line.short:
            x, y = _single(run, line, name, axis, price, part, log)
            place.plot(x, y, linewidth=0.8, alpha=0.75, **options)
            extent += [(x, y, y)] if len(x) else []
        found = curves.curve(line, name, part, axis.kind, price)
        if found is None:
            continue
        x = found.x * axis.factor
        middle, low, high = curves.drawn(found, log)
        if line.seeds > 1:
            place.fill_between(x, low, high, color=look.colour, alpha=0.2, linewidth=0)
            extent.append((x, np.where(np.isnan(low), middle, low), high))
        place.plot(
            x,
            middle,
            linewidth=1.5,
            marker=look.marker,
            markersize=4.5,
            markevery=_marks(len(x), looks.index(look)),
            **options,
        )
        extent.append((x, middle, middle))
    place.set_title(_title(name, comparison, part))
    place.set_xlabel(axis.label)
    place.set_ylabel(_unit(name))
    place.margins(x=0.02)
    if extent:
        if min(x[0] for x, *_ in extent) < _FROM_ZERO * max(x[-1] for x, *_ in extent):
            place.set_xlim(left=0)
        place.set_ylim(*_limits(extent))
    if axis.kind in ("steps", "evaluations"):
        place.xaxis.set_major_formatter(EngFormatter(sep=""))
    place.locator_params(axis="x", nbins=6)


def _single(run, line, name, axis, price, part, log):
    """Places and values of one run."""
    places, values = run.x(axis.kind, price), run.series(name, line.label, part)
    found = np.array([[places[t] * axis.factor, values[t]] for t in sorted(values)])
    x, y = found.reshape(-1, 2).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return x, np.log(y) if log else y


def _limits(extent):
    """Lower and upper limit such that all fits; of long lines, what comes after the beginning."""
    end = max(x[-1] for x, *_ in extent)
    start = _EARLY * end if max(len(x) for x, *_ in extent) > _FEW else -math.inf
    late = [edge[x > start] for x, *edges in extent for edge in edges]
    values = np.concatenate(late)
    values = values[np.isfinite(values)]
    if not len(values):
        return -1, 1
    low, high = np.min(values), np.max(values)
    room = 0.06 * (high - low) or 0.05 * max(abs(high), 1e-3)
    return low - room, high + room


def _marks(n, i):
    """Which points get a marker: about eight, shifted from line to line; all of a few."""
    every = max(1, n // 8)
    return slice((i * every) // 4 % every, None, every)


def _dash(line):
    return (0, (4, 1.6)) if line.unbiased is False else "-"


def _handle(line, look):
    from matplotlib.lines import Line2D

    name = line.name if line.unbiased is not False else f"{line.name} (biased)"
    return Line2D(
        [],
        [],
        color=look.colour,
        marker=look.marker,
        markersize=4.5,
        linewidth=1.5,
        linestyle=_dash(line),
        label=name,
    )


def _caption(comparison):
    """What lines and bands are."""
    seeds = {line.name: line.seeds for line in comparison.lines if line.trains}
    counts = set(seeds.values())
    if counts == {1}:
        text = "One seed, no band."
    elif len(counts) == 1:
        text = f"Mean and standard error over {counts.pop()} seeds."
    else:
        told = ", ".join(f"{name}: {n}" for name, n in seeds.items())
        text = f"Mean and standard error over seeds ({told}; one seed has no band)."
    if comparison.follow:
        text = f"All on the trajectory of {comparison.follow}. {text}"
    if any(line.short for line in comparison.lines):
        text += " Thin: unfinished runs."
    if any(line.unbiased is False for line in comparison.lines):
        text += " Dashed: biased."
    return text


def _title(name, comparison, part):
    if name == "variance":
        return "Gradient variance (running)"
    if name == "estimator_variance":
        return "Variance of the estimator alone" + ("" if part == "total" else f", {part}")
    if name in ("test", "valid"):
        samples = {run.eval_samples for line in comparison.lines for run in line.runs} - {None}
        what = f"{samples.pop()}-sample bound" if len(samples) == 1 else "Multi-sample bound"
        return f"{'Test' if name == 'test' else 'Validation'}: {what}"
    return {"elbo": "Train ELBO"}.get(name, name)


def _unit(name):
    if name in _LOGARITHMS:
        return "log variance, (nats / weight)²"
    known = {
        "elbo": "ELBO (nats)",
        "test": "bound (nats)",
        "valid": "bound (nats)",
        "multi_sample_bound": "bound (nats)",
        "seconds": "seconds",
    }
    return known.get(name, name)


def _all(line):
    return [*line.runs, *line.short]


def render(made: Any) -> dict[str, bytes]:
    """A figure as files: suffix -> content."""
    import matplotlib

    files = {}
    with matplotlib.rc_context(_RC):
        for suffix in _SUFFIXES:
            content = io.BytesIO()
            metadata = {"CreationDate": None} if suffix == ".pdf" else None
            made.savefig(content, format=suffix[1:], dpi=200, metadata=metadata)
            files[suffix] = content.getvalue()
    return files
