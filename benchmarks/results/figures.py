"""Figures of docs/results.md: variance against cost, and curves of long runs."""

import math

from benchmarks.results import frozen, published, records
from rebar import styles
from rebar.data.sources import task_title

BURN_IN = 0.05
"""Part of a run that is not drawn; its large changes would hide the rest."""


def costs(models):
    """Variance against evaluations and time, after the last number of epochs."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    with matplotlib.rc_context(styles.RC):
        rows = max(len(records.read("frozen", model)) for model in models)
        height = max(3.6, 0.16 * rows) * len(models)
        drawing = Figure(figsize=(10, height), layout="constrained")
        axes = drawing.subplots(len(models), 2, squeeze=False, sharey="row")
        for row, model in zip(axes, models, strict=True):
            shown = [r for r in records.read("frozen", model) if r["objective"] == "elbo"]
            shown.sort(key=lambda r: -r["points"][-1]["variance"])
            labels = [r["estimator"].partition("(")[0] for r in shown]
            for record, style in zip(shown, styles.styles(labels), strict=True):
                _marker(row, record, style)
            units = ("evaluations of f per image", "ms per batch")
            for axis, unit in zip(row, units, strict=True):
                axis.set(xscale="log", yscale="log", xlabel=unit)
                axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                for scale in (axis.xaxis, axis.yaxis):
                    scale.set_major_formatter("{x:g}")
                    scale.set_minor_formatter(NullFormatter())
                _products(axis)
            epoch = frozen.MODELS[model].epochs[-1]
            row[0].set_ylabel("variance of q's gradient")
            row[0].set_title(f"{frozen.MODELS[model].title}, epoch {epoch}", loc="left")
            row[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=7)
    return drawing


def _marker(axes, record, style):
    from matplotlib.markers import MarkerStyle

    last = record["points"][-1]
    face = style.color if record["unbiased"] else "none"
    name = frozen.name_of(record)
    filled = MarkerStyle(style.marker).is_filled()
    colors = {"facecolors": face, "edgecolors": style.color} if filled else {"color": style.color}
    for axis, cost in zip(axes, (record["evaluations"], record["milliseconds"]), strict=True):
        point = axis.scatter(cost, last["variance"], s=36, marker=style.marker, label=name)
        point.set(**colors)


def _products(axis):
    """Lines of equal variance times cost."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    start, end = math.log10(left * low), math.log10(right * high)
    for power in range(math.floor(start), math.ceil(end) + 1):
        axis.plot(
            [left, right], [10**power / left, 10**power / right], ":", color="#bbbbbb", lw=0.7
        )
    axis.set(xlim=(left, right), ylim=(low, high))


def runs():
    """Curves of the long runs, a panel per protocol and data set, and the published numbers."""
    import matplotlib
    from matplotlib.figure import Figure

    panels = [*_panels()]
    with matplotlib.rc_context(styles.RC):
        lines = -(-len(panels) // 2)
        drawing = Figure(figsize=(10, 3.4 * lines), layout="constrained")
        axes = [*drawing.subplots(lines, 2, squeeze=False).flat]
        for axis, panel in zip(axes, panels, strict=False):
            _curves(axis, *panel)
        for axis in axes[len(panels) :]:
            axis.remove()
    return drawing


def _panels():
    """Yield protocols and rows, each with its runs, of one data set."""
    for name, protocol in published.PROTOCOLS.items():
        tasks = {}
        for row in protocol.rows:
            every = published.runs_of(name, row.name)
            if curves := [run["curve"] for run in every if len(run["curve"]) > 1]:
                tasks.setdefault(row.run_settings.task, []).append((row, curves))
        yield from ((protocol, rows) for rows in tasks.values())


def _curves(axis, protocol, rows):
    """Draw the last quantity of a protocol; seeds have one color.

    Published numbers are dashed lines, of rows with a run of more than half of the published steps.
    """
    *_, quantity = protocol.quantities
    run = rows[0][0].run_settings
    labels = [row.run_settings.entry.label for row, _ in rows]
    first = BURN_IN * max(curve[-1]["step"] for _, curves in rows for curve in curves)
    for (row, curves), style in zip(rows, styles.styles(labels), strict=True):
        for seed, curve in enumerate(curves):
            points = [p for p in curve if p["step"] >= first]
            thousands = [p["step"] / 1000 for p in points]
            values = [p[quantity] for p in points]
            marks = {"marker": style.marker, "ms": 4, "markevery": -(-len(points) // 8)}
            label = None if seed else row.text
            axis.plot(thousands, values, color=style.color, label=label, **marks)
        reached = max(curve[-1]["step"] for curve in curves)
        if quantity in row.published and reached > protocol.steps / 2:
            axis.axhline(row.published[quantity], color=style.color, ls="--", lw=0.8)
    axis.set(xlim=(0, None), xlabel="thousand steps", ylabel=protocol.quantities[quantity])
    axis.set_title(f"{protocol.title}\n{task_title(run.task, run.dynamic_b)}", loc="left")
    axis.legend(frameon=False, fontsize=7, loc="lower right")
