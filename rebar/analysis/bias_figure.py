"""Cosine and variance of estimators over checkpoints: figure 1 of Wang & Bui (arXiv 2603.08257).

matplotlib is imported where a figure is made, and never by way of pyplot: no display is needed.
"""

import math

from rebar import styles
from rebar.errors import RebarError

_GRID = "#dddddd"
_PANELS = {
    "cosine": ("Direction of the mean gradient", "cosine to the exact gradient", False),
    "relative_variance": ("Total variance", "variance / |exact gradient|²", True),
    "std_to_mean": ("Noise (as published)", "mean over images of |std| / |mean|", True),
}
"""Name of a number -> title, label of its axis, and whether that is logarithmic."""


def figure(records: list[dict], title: str = ""):
    """One panel a number, one line an estimator: solid if unbiased, else dashed.

    Args:
      records: of each checkpoint, with "epoch" and "estimators"; in any order.
      title: over the figure.

    Returns:
      A matplotlib Figure.

    Raises:
      RebarError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RebarError("figures need matplotlib; type: pip install matplotlib") from None
    records = sorted(records, key=lambda record: record["epoch"])
    labels = list(dict.fromkeys(label for record in records for label in record["estimators"]))
    first = [next(r["estimators"][n] for r in records if n in r["estimators"]) for n in labels]
    looks = styles.styles(labels)
    panels = [name for name in _PANELS if any(name in values for values in first)]
    made = Figure(figsize=(4.1 * len(panels), 3.9), layout="constrained")
    axes = made.subplots(1, len(panels), squeeze=False)[0]
    for axis, name in zip(axes, panels, strict=True):
        heading, unit, logarithmic = _PANELS[name]
        for label, style, values in zip(labels, looks, first, strict=True):
            _draw_line(axis, records, label, style, name, values["unbiased"])
        axis.set_title(heading, fontsize=10)
        axis.set_xlabel("epochs", fontsize=9)
        if len(records) == 1:
            axis.set_xticks([records[0]["epoch"]])
        axis.set_ylabel(unit, fontsize=9)
        if logarithmic:
            axis.set_yscale("log")
        axis.grid(color=_GRID, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    made.legend(handles, names, loc="outside lower center", ncols=min(8, len(names)), fontsize=9)
    made.suptitle(f"{title}\ndashed: biased, solid: unbiased".strip(), fontsize=10, wrap=True)
    return made


def _draw_line(axis, records, label, style, name, unbiased):
    found = [(r["epoch"], r["estimators"][label]) for r in records if label in r["estimators"]]
    axis.errorbar(
        [epoch for epoch, _ in found],
        [_number(values[name]) for _, values in found],
        yerr=[_number(values["standard_error"][name]) for _, values in found],
        color=style.color,
        marker=style.marker,
        markersize=5,
        linestyle="-" if unbiased else "--",
        linewidth=1.5,
        elinewidth=1,
        label=label,
    )


def _number(value) -> float:
    """A number of a record, in which null stands for one that is not finite."""
    return math.nan if value is None else value
