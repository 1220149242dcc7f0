"""Cosine and variance of estimators over checkpoints: figure 1 of Wang & Bui (arXiv 2603.08257)."""

import math

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from rebar import styles

_PANELS = {
    "cosine": ("Direction of the mean gradient", "cosine with the exact gradient", "linear"),
    "relative_variance": ("Total variance", "variance / |exact gradient|²", "log"),
    "std_to_mean": ("Noise (as published)", "mean over images of |std| / |mean|", "log"),
}
"""Name of a number -> title, label and scale of its axis."""


def figure(records: list[dict], title: str = "") -> Figure:
    """One panel per number, one line per estimator.

    Args:
      records: one per checkpoint, with "epoch" and "estimators"; in any order.
      title: title of the figure.
    """
    rows = [
        {"epoch": record["epoch"], "label": label, **values}
        for record in records
        for label, values in record["estimators"].items()
    ]
    lines = pd.json_normalize(rows).sort_values("epoch", kind="stable").groupby("label", sort=False)
    panels = [name for name in _PANELS if name in lines.obj]
    with matplotlib.rc_context(styles.RC):
        drawing = Figure(figsize=(4.1 * len(panels), 3.9), layout="constrained")
        axes = drawing.subplots(1, len(panels), squeeze=False)[0]
        for axis, name in zip(axes, panels, strict=True):
            for (label, points), style in zip(lines, styles.styles([*lines.groups]), strict=True):
                unbiased = points["unbiased"].all()
                axis.errorbar(
                    points["epoch"],
                    points[name].astype(float),
                    yerr=points[f"standard_error.{name}"].astype(float),
                    color=style.color,
                    marker=style.marker,
                    markersize=5,
                    linestyle="-" if unbiased else "--",
                    elinewidth=1,
                    label=label if unbiased else f"{label} (biased)",
                )
            heading, unit, scale = _PANELS[name]
            axis.set(title=heading, xlabel="training epochs", ylabel=unit, yscale=scale)
            if scale == "log":
                axis.yaxis.set_major_formatter(LogFormatter())
                axis.yaxis.set_minor_formatter(LogFormatter())
            if len(records) == 1:
                axis.set_xticks([records[0]["epoch"]])
        drawing.legend(
            *axes[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=math.ceil(len(lines) / math.ceil(len(lines) / (2 * len(panels)))),
            frameon=False,
        )
        drawing.suptitle(title, fontsize=10, wrap=True)
    return drawing
