"""The figure of a comparison: panels with a line for each estimator, as in the papers.

Variances are averaged over seeds before the logarithm. matplotlib is imported where a figure is
made, and never through pyplot: no display is needed.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rebar import styles
from rebar.compare import X
from rebar.compare.groups import Comparison, Line

_EARLY = 0.1
"""The first part of an axis that limits ignore: values there are far off."""

_TITLES = {
    "variance": "Gradient variance (running)",
    "estimator_variance": "Conditional gradient variance",
    "elbo": "Train ELBO",
    "test": "Test: {}-sample bound",
    "valid": "Validation: {}-sample bound",
    "multi_sample_bound": "Train: multi-sample bound",
    "seconds": "Seconds per epoch",
}
_UNITS = {"seconds": "seconds", "elbo": "ELBO (nats per image)"}
_UNITS |= dict.fromkeys(("test", "valid", "multi_sample_bound"), "bound (nats per image)")


def draw(comparison: Comparison, names: Sequence[str], x: str = "steps") -> Any:
    """Draw a comparison; notes on what is missing are added to it.

    Args:
      names: panels, which are quantities of `rebar.compare.read`.
      x: unit of the horizontal axis; steps are used where a log does not have it.

    Returns:
      A matplotlib Figure; None if the logs have none of the panels.
    """
    import matplotlib
    from matplotlib.figure import Figure

    panels = []
    for name in dict.fromkeys(names):
        drawn = _lines(comparison, name)
        missing = [line.name for line in drawn if not any(map(len, line.all_series(name)))]
        text = f"no {name} in the logs of {', '.join(missing)}"
        if name == "estimator_variance/total":
            text = (
                f"no conditional variance was measured for {', '.join(missing)}; "
                "train with --variance_freq=N to add it"
            )
        comparison.notes += [text] * bool(missing)
        panels += [name] * (len(missing) < len(drawn))
    if not panels:
        return None
    runs = [(run, line.cost) for line in comparison.lines for run in [*line.runs, *line.short]]
    if without := ", ".join({run.path: 0 for run, cost in runs if run.x(x, cost) is None}):
        comparison.notes.append(f"drawn against steps instead of {x}, which is not in {without}")
        x = "steps"
    n_columns = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
    n_rows = math.ceil(len(panels) / n_columns)
    chosen = styles.styles([line.label for line in comparison.lines])
    looks = dict(zip(comparison.lines, chosen, strict=True))
    with matplotlib.rc_context(styles.RC):
        width = max(4.1 * n_columns, 5.5)
        figure = Figure(figsize=(width, 2.9 * n_rows + 1.1), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes, name in zip(grid.flat, panels, strict=False):
            _panel(axes, comparison, looks, name, x)
        for axes in list(grid.flat)[len(panels) :]:
            axes.remove()
        figure.suptitle(comparison.title, fontsize=11)
        _legend(figure, comparison, width)
    return figure


def curve(line: Line, name: str, x: str = "steps", log: bool = False) -> list[np.ndarray]:
    """Horizontal position, mean, and lower and upper edge of the band of a line.

    Args:
      name: a quantity.
      x: unit of the position; all runs must have it.
      log: return logarithms: of the mean, and of the mean minus and plus its standard error.
    """
    values = line.table(name)
    positions = [run.x(x, line.cost).reindex(values.index) for run in line.runs]
    middle, error = values.mean(axis=1, skipna=False), values.sem(axis=1, skipna=False)
    edges = [edge.to_numpy() for edge in (middle, middle - error, middle + error)]
    return [sum(positions).to_numpy() / len(positions), *(_log(e) if log else e for e in edges)]


def _log(values):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.where(values > 0, values, math.nan))


def _is_variance(name):
    """Return True for panels of logarithms, with a line for each tracked estimator."""
    return name.partition("/")[0] in ("variance", "variance_q", "estimator_variance")


def _lines(comparison, name):
    return [line for line in comparison.lines if line.trains or _is_variance(name)]


def _panel(axes, comparison, looks, name, x):
    from matplotlib.ticker import EngFormatter

    log = _is_variance(name)
    extent = []
    for i, line in enumerate(_lines(comparison, name)):
        look = looks[line]
        dash = (0, (4, 1.6)) if line.unbiased is False else "-"
        options = {"color": look.color, "linestyle": dash, "linewidth": 0.8, "alpha": 0.75}
        for run in line.short:
            values = run.series(name, line.label)
            place = run.x(x, line.cost).reindex(values.index).to_numpy()
            extent.append((place, _log(values.to_numpy()) if log else values.to_numpy()))
            axes.plot(*extent[-1], **options)
        extent.append(curve(line, name, x, log))
        place, middle, low, high = extent[-1]
        if len(line.runs) > 1:
            axes.fill_between(place, low, high, color=look.color, alpha=0.2, linewidth=0)
        # About eight markers, shifted from line to line.
        every = max(1, len(place) // 8)
        options |= {"linewidth": 1.5, "alpha": 1, "marker": look.marker, "markersize": 4.5}
        options["label"] = line.name + " (biased)" * (line.unbiased is False)
        axes.plot(place, middle, markevery=slice(i * every // 4 % every, None, every), **options)
    quantity, _, part = name.partition("/")
    heading = _TITLES.get(quantity, name)
    samples = {line.runs[0].settings.get("eval_samples", "multi") for line in comparison.lines}
    heading = heading.replace("{}", samples.pop() if len(samples) == 1 else "multi")
    axes.set_title(f"{heading}, {part}" if part not in ("", "total") else heading)
    unit = "ln(variance / (nats/weight)²)" if log else _UNITS.get(name, name)
    axes.set(xlabel=X[x], ylabel=unit)
    axes.margins(x=0.02)
    if extent := [one for one in extent if len(one[0])]:
        _limit(axes, extent)
    if x != "epochs":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.locator_params(axis="x", nbins=6)


def _limit(axes, extent):
    """Begin at 0, and show all values after the beginning."""
    end = max(x[-1] for x, *_ in extent)
    values = np.concatenate([edge[x > _EARLY * end] for x, *edges in extent for edge in edges])
    values = values[np.isfinite(values)]
    axes.set_xlim(left=0)
    if len(values):
        low, high = np.min(values), np.max(values)
        room = 0.06 * (high - low) or 0.05 * max(abs(high), 1e-3)
        axes.set_ylim(low - room, high + room)


def _legend(figure, comparison, width):
    """Names of the lines, and the meaning of bands and dashes."""
    drawn = [line for axes in figure.axes for line in axes.lines if line.get_label()[0] != "_"]
    handles = [*{line.get_label(): line for line in drawn}.values()]
    seeds = " or ".join(map(str, sorted({len(line.runs) for line in comparison.lines})))
    caption = f"Mean and standard error over {seeds} seeds."
    caption = caption if seeds != "1" else "One seed, no band."
    if comparison.follow:
        caption = f"All on the trajectory of {comparison.follow}. {caption}"
    caption += " Thin: unfinished runs." * any(line.short for line in comparison.lines)
    caption += " Dashed: biased." * any(line.unbiased is False for line in comparison.lines)
    longest = max(len(handle.get_label()) for handle in handles)
    ncols = min(len(handles), max(1, int(width / (0.65 + 0.075 * longest))))
    figure.legend(
        # matplotlib fills columns; this order reads along the rows.
        handles=[handle for i in range(ncols) for handle in handles[i::ncols]],
        **{"loc": "outside lower center", "ncols": ncols, "frameon": False},
        **{"title": caption, "title_fontsize": 8},
    )
