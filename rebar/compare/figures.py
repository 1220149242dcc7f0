"""The figure of a comparison: panels with a line for each estimator, as in the papers.

    variance             logarithm of the running variance of the gradient
    elbo                 train ELBO
    test                 multi-sample bound of the test images
    estimator_variance   logarithm of the conditional variance, at fixed parameters and images

Variances are averaged over seeds before the logarithm. matplotlib is imported where a figure is
made, and never by way of pyplot: no display is needed.
"""

import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rebar import styles
from rebar.compare import X, curves
from rebar.compare.groups import Comparison
from rebar.errors import RebarError

_LOGARITHMS = ("variance", "estimator_variance")
_SUFFIXES = (".png", ".pdf")
_WIDTH, _HEIGHT = 4.1, 2.9
_EARLY = 0.1
"""The first part of an axis that limits ignore: values there are far off."""

_FROM_ZERO = 0.4
"""An axis begins at 0 unless so much of it would be empty, as where compiling took longest."""

_FEW = 15
"""Where no line has more points, limits include all of them."""

_LABELS = {
    "variance": ("Gradient variance (running)", "ln(variance / (nats/weight)²)"),
    "estimator_variance": ("Conditional gradient variance", "ln(variance / (nats/weight)²)"),
    "elbo": ("Train ELBO", "ELBO (nats per image)"),
    "test": ("Test: multi-sample bound", "bound (nats per image)"),
    "valid": ("Validation: multi-sample bound", "bound (nats per image)"),
    "multi_sample_bound": ("Train: multi-sample bound", "bound (nats per image)"),
    "seconds": ("Seconds per epoch", "seconds"),
}
"""Name of a panel -> its title and the label of its vertical axis."""


class Axis(NamedTuple):
    """A horizontal axis: kind, one of `rebar.compare.X`; factor and label of its unit."""

    kind: str
    factor: float
    label: str


def quantity(panel: str, part: str = "total") -> str:
    """The quantity that a panel shows, see `rebar.compare.read`."""
    return f"{panel}/{part}" if panel == "estimator_variance" else panel


def choose_panels(
    comparison: Comparison, names: Sequence[str], part: str = "total"
) -> tuple[list[str], list[str]]:
    """The panels that can be drawn of those named, and one sentence for each that cannot."""
    panels, notes = [], []
    for name in dict.fromkeys(names):
        what = quantity(name, part)
        without = [line for line in comparison.lines if what not in _quantities(line)]
        if len(without) == len(comparison.lines):
            known = dict.fromkeys(n for line in comparison.lines for n in _quantities(line))
            notes.append(f"no {what} in the logs: no such panel; choose from {', '.join(known)}")
            continue
        panels.append(name)
        lacking = [line.name for line in without if line.trains or name in _LOGARITHMS]
        if lacking:
            notes.append(f"no {what} in the logs of {', '.join(lacking)}")
    return panels, notes


def _quantities(line):
    """Names of what the logs of a line have."""
    values = [run.values[run.values.estimator == line.label] for run in _runs(line)]
    return dict.fromkeys(name for table in values for name in table.quantity.unique())


def choose_axis(comparison: Comparison, kind: str) -> tuple[Axis, list[str]]:
    """The axis asked for, or steps and one sentence with the reason."""
    if kind not in X:
        raise RebarError(f"x={kind}: choose from {', '.join(X)}")
    places = {
        run.path: run.x(kind, cost(comparison, line))
        for line in comparison.lines
        for run in _runs(line)
    }
    lacking = [path for path, place in places.items() if place is None]
    if lacking:
        return Axis("steps", 1, "training steps"), [
            f"drawn against steps instead of {kind}, which these logs lack: {', '.join(lacking)}"
        ]
    if kind == "seconds":
        longest = max(place.iloc[-1] for place in places.values())
        for name, size in (("hours", 3600), ("minutes", 60)):
            if longest > 3 * size:
                return Axis(kind, 1 / size, f"training time ({name})"), []
        return Axis(kind, 1, "training time (seconds)"), []
    labels = {"steps": "training steps", "evaluations": "evaluations of f"}
    return Axis(kind, 1, labels.get(kind, kind)), []


def cost(comparison: Comparison, line) -> float | None:
    """Evaluations of f per step of the training that a line is part of."""
    trainer = next((one for one in comparison.lines if one.trains), line)
    return trainer.evaluations if comparison.follow else line.evaluations


def figure(comparison: Comparison, panels: Sequence[str], axis: Axis, part: str = "total") -> Any:
    """The figure as a matplotlib Figure.

    Args:
      panels, axis: as chosen by `choose_panels` and `choose_axis`; at least one panel.
      part: of the conditional variance.
    """
    import matplotlib
    from matplotlib.figure import Figure

    n = len(panels)
    n_columns = n if n < 4 else 2 if n == 4 else 3
    n_rows = math.ceil(n / n_columns)
    looks = styles.styles([line.label for line in comparison.lines])
    with matplotlib.rc_context(styles.RC):
        size = (max(_WIDTH * n_columns, 5.5), _HEIGHT * n_rows + 1.1)
        drawing = Figure(figsize=size, layout="constrained")
        grid = drawing.subplots(n_rows, n_columns, squeeze=False)
        for place, name in zip(grid.flat, panels, strict=False):
            _panel(place, comparison, looks, name, axis, part)
        for place in list(grid.flat)[n:]:
            place.remove()
        drawing.suptitle(comparison.title, fontsize=11)
        handles = [_handle(*pair) for pair in zip(comparison.lines, looks, strict=True)]
        widest = max(0.65 + 0.075 * len(handle.get_label()) for handle in handles)
        ncols = min(len(handles), max(1, int(size[0] / widest)))
        drawing.legend(
            # matplotlib fills columns; this order reads along the rows.
            handles=[handle for i in range(ncols) for handle in handles[i::ncols]],
            loc="outside lower center",
            ncols=ncols,
            frameon=False,
            title=_caption(comparison),
            title_fontsize=8,
        )
    return drawing


def _panel(place, comparison, looks, name, axis, part):
    from matplotlib.ticker import EngFormatter

    log = name in _LOGARITHMS
    what = quantity(name, part)
    extent: list = []
    for i, (line, look) in enumerate(zip(comparison.lines, looks, strict=True)):
        if not line.trains and not log:
            continue
        price = cost(comparison, line)
        options = {"color": look.color, "linestyle": _dash(line), "solid_capstyle": "round"}
        for run in line.short:
            values = run.series(what, line.label)
            x = run.x(axis.kind, price).reindex(values.index).to_numpy() * axis.factor
            with np.errstate(divide="ignore", invalid="ignore"):
                y = np.log(values.to_numpy()) if log else values.to_numpy()
            place.plot(x, y, linewidth=0.8, alpha=0.75, **options)
            extent += [(x, y)] if len(x) else []
        found = curves.curve(line, what, axis.kind, price)
        if found is None:
            continue
        x = found.x.to_numpy() * axis.factor
        middle, low, high = curves.edges(found, log)
        if line.seeds > 1:
            place.fill_between(x, low, high, color=look.color, alpha=0.2, linewidth=0)
        every = max(1, len(x) // 8)
        place.plot(
            x,
            middle,
            linewidth=1.5,
            marker=look.marker,
            markersize=4.5,
            # About eight markers, shifted from line to line.
            markevery=slice((i * every) // 4 % every, None, every),
            **options,
        )
        extent.append((x, middle, low, high))
    heading, unit = _LABELS.get(name, (name, name))
    if name in ("test", "valid"):
        samples = {run.eval_samples for line in comparison.lines for run in line.runs} - {None}
        heading = heading.replace("multi", str(samples.pop())) if len(samples) == 1 else heading
    place.set_title(heading if what == name or part == "total" else f"{heading}, {part}")
    place.set_xlabel(axis.label)
    place.set_ylabel(unit)
    place.margins(x=0.02)
    if extent:
        if min(x[0] for x, *_ in extent) < _FROM_ZERO * max(x[-1] for x, *_ in extent):
            place.set_xlim(left=0)
        place.set_ylim(*_limits(extent))
    if axis.kind in ("steps", "evaluations"):
        place.xaxis.set_major_formatter(EngFormatter(sep=""))
    place.locator_params(axis="x", nbins=6)


def _limits(extent):
    """Lower and upper limit such that all fits; of long lines, what comes after the beginning."""
    end = max(x[-1] for x, *_ in extent)
    start = _EARLY * end if max(len(x) for x, *_ in extent) > _FEW else -math.inf
    values = np.concatenate([edge[x > start] for x, *edges in extent for edge in edges])
    values = values[np.isfinite(values)]
    if not len(values):
        return -1, 1
    low, high = np.min(values), np.max(values)
    room = 0.06 * (high - low) or 0.05 * max(abs(high), 1e-3)
    return low - room, high + room


def _dash(line):
    return (0, (4, 1.6)) if line.unbiased is False else "-"


def _handle(line, look):
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        color=look.color,
        marker=look.marker,
        markersize=4.5,
        linewidth=1.5,
        linestyle=_dash(line),
        label=line.name if line.unbiased is not False else f"{line.name} (biased)",
    )


def _caption(comparison):
    """Meaning of lines and bands."""
    seeds = {line.name: line.seeds for line in comparison.lines if line.trains}
    counts = set(seeds.values())
    if counts == {1}:
        text = "One seed, no band."
    elif len(counts) == 1:
        text = f"Mean and standard error over {counts.pop()} seeds."
    else:
        numbers = ", ".join(f"{name}: {n}" for name, n in seeds.items())
        text = f"Mean and standard error over seeds ({numbers}; one seed has no band)."
    if comparison.follow:
        text = f"All on the trajectory of {comparison.follow}. {text}"
    if any(line.short for line in comparison.lines):
        text += " Thin: unfinished runs."
    if any(line.unbiased is False for line in comparison.lines):
        text += " Dashed: biased."
    return text


def _runs(line):
    return [*line.runs, *line.short]


def render(drawing: Any) -> dict[str, bytes]:
    """A figure as files: suffix -> content."""
    import matplotlib

    files = {}
    with matplotlib.rc_context(styles.RC):
        for suffix in _SUFFIXES:
            content = io.BytesIO()
            metadata = {"CreationDate": None} if suffix == ".pdf" else None
            drawing.savefig(content, format=suffix[1:], dpi=200, metadata=metadata)
            files[suffix] = content.getvalue()
    return files
