"""Figure of `rebar.compare_estimators`."""

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from rebar import styles
from rebar.analysis.bias_variance import SEEN

_MARKERS = "osDv^Pd<>ph8"


def figure(comparison) -> Figure:
    """Panels of bias, variance of each part, and time; one row per estimator.

    Args:
      comparison: see `rebar.analysis.comparison.Comparison`.
    """
    labels = list(comparison.estimators)
    values = list(comparison.estimators.values())
    parts = list(values[0].variance)
    markers = {part: _MARKERS[i % len(_MARKERS)] for i, part in enumerate(parts)}
    with matplotlib.rc_context(styles.RC):
        drawing = Figure(figsize=(10, 1.6 + 0.3 * len(labels)), layout="constrained")
        bias, variance, time = drawing.subplots(1, 3, sharey=True)
        for y, (result, (color, marker)) in enumerate(
            zip(values, styles.styles(labels), strict=True)
        ):
            seen = result.z > SEEN
            limit = result.bias if seen else result.bias_limit
            bias.plot(limit, y, marker if seen else "<", color=color, mfc=color if seen else "none")
            for part, shape in markers.items():
                variance.errorbar(
                    result.variance[part],
                    y,
                    xerr=result.standard_error[part],
                    color=color,
                    marker=shape,
                    markersize=6 if part == "total" else 4,
                    mfc=color if part == "total" else "none",
                )
            time.plot(result.milliseconds, y, marker, color=color)
        bias.set_yticks(
            range(len(labels)),
            [n if v.unbiased else f"{n} (biased)" for n, v in zip(labels, values, strict=True)],
        )
        bias.invert_yaxis()
        bias.set(title="Bias (triangle: upper limit)", xlabel="|E g - e| / |e|")
        variance.set(title="Variance of an estimate", xlabel="variance, (unit of f)²")
        time.set(title="Time", xlabel="milliseconds per estimate")
        variance.set_xscale("log")
        low, high = variance.get_xlim()
        variance.xaxis.set_minor_locator(LogLocator(subs=(2, 5) if high < 200 * low else (3,)))
        variance.xaxis.set_major_formatter("{x:g}")
        variance.xaxis.set_minor_formatter("{x:g}")
        for axis in (bias, time):
            axis.set_xlim(left=0)
        handles = [
            Line2D([], [], color="black", ls="", marker=m, mfc="black" if p == "total" else "none")
            for p, m in markers.items()
        ]
        drawing.legend(handles, parts, loc="outside lower center", ncols=6, frameon=False)
    return drawing
