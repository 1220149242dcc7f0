"""docs/results.md from the records: tables between markers, and figures.

The text between `<!-- NAME -->` and `<!-- end -->` is the table NAME of `tables`.
"""

import functools
import hashlib
import json
import math
import re
import statistics

from benchmarks import common
from benchmarks.results import figures, frozen, published, records
from rebar import styles

PAGE = records.ROOT / "docs" / "results.md"
FIGURES = PAGE.parent / "figures"
_MARKED = re.compile(r"(<!-- (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_PANELS = {
    "binary": ("linear", "nonlinear", "gaussian"),
    "categorical": ("8x4", "8x16"),
}


def write():
    """Write the page and the figures; returns their paths."""
    common.write_file(PAGE, text(PAGE.read_text()).encode())
    made = drawings()
    for path, (drawing, digest) in made.items():
        common.write_file(path, styles.render(drawing(), "png", about=digest))
    return [PAGE, *made]


def drawings():
    """Path of a figure -> function that draws it, and the digest that its file must contain."""
    result = {}
    for latents, models in _PANELS.items():
        drawing = functools.partial(figures.costs, models)
        shown = [records.read("frozen", model) for model in models]
        result[FIGURES / f"results_{latents}.png"] = drawing, _digest(shown)
    shown = [records.read("runs", name) for name in published.PROTOCOLS]
    digest = _digest([published.PROTOCOLS, shown])
    return result | {FIGURES / "results_runs.png": (figures.runs, digest)}


def _digest(shown):
    """Digest of what a figure shows."""
    return f"drawn from {hashlib.sha256(json.dumps(shown).encode()).hexdigest()}"


def text(page):
    """Return the page with the tables of the present records."""
    made = tables()
    return _MARKED.sub(lambda match: f"{match[1]}{made[match[2]]}{match[3]}", page)


def tables():
    """Name of a marker -> Markdown table."""
    result = {}
    for model in frozen.MODELS:
        every = records.read("frozen", model)
        result[model] = _frozen([r for r in every if r["objective"] == "elbo"])
        result[f"{model}-bound"] = _frozen([r for r in every if r["objective"] != "elbo"])
    for name, protocol in published.PROTOCOLS.items():
        result[f"{name}-runs"] = (
            f"{protocol.about}\n\n{_published(name, protocol)}{_commands(protocol)}"
        )
    return result


def _table(heading, rows):
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _frozen(rows):
    """A row per estimator, the smallest variance times evaluations after the last epoch first."""
    if not rows:
        return "No records yet.\n"
    epochs = [f"variance, epoch {point['epoch']}" for point in rows[0]["points"]]
    heading = ["estimator", "f", "ms", *epochs, "variance x f", "variance x ms"]
    biased = any("relative_bias" in point for r in rows for point in r["points"])
    heading += ["signal to noise", *(["bias", "cosine", "mse"] if biased else [])]
    return _table(heading, [_cells(r, biased) for r in sorted(rows, key=_cost)])


def _cost(record):
    return record["points"][-1]["variance"] * record["evaluations"]


def _cells(record, biased):
    last = record["points"][-1]
    name = frozen.name_of(record)
    cells = [name, _number(record["evaluations"]), _number(record["milliseconds"])]
    for point in record["points"]:
        cells.append(_with_error(point["variance"], point["standard_error"]["variance"]))
    cells += [_number(_cost(record)), _number(last["variance"] * record["milliseconds"])]
    cells.append(_with_error(last["snr"], last["standard_error"]["snr"]))
    if biased:
        cells += _bias(last) if "relative_bias" in last else [""] * 3
    return cells


def _bias(point):
    error = point["standard_error"]
    bias = _with_error(point["relative_bias"], error["relative_bias"])
    if not point["bias_seen"]:
        bias = f"< {point['relative_bias_limit']:.2g}"
    cosine = _with_error(point["expected_cosine"], error["expected_cosine"])
    return bias, cosine, _with_error(point["mse"], error["mse"])


def _number(value):
    """Format with three digits and without an exponent for large numbers."""
    return f"{float(f'{value:.3g}'):.0f}" if value >= 1000 else f"{value:.3g}"


def _with_error(value, error):
    """Format with the digits that a standard error leaves, e.g. "0.0123 ± 0.0004"."""
    if not error or not math.isfinite(error):
        return _number(value)
    digits = max(0, -math.floor(math.log10(error)))
    if value < 1e-3:
        return f"{value:.3g} ± {error:.1g}"
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _published(name, protocol):
    """A row per estimator and last evaluation of a run: means over the seeds that have it."""
    heading = ["run", "steps", "seeds", "hours"]
    for title in protocol.quantities.values():
        heading += [title, "published"]
    rows = []
    for row in protocol.rows:
        runs = published.runs_of(name, row.name)
        for steps in sorted({run["steps"] for run in runs}) or [0]:
            points = [point for r in runs for point in r["curve"] if point["step"] == steps]
            rows.append(_at_steps(protocol, row, steps, points))
    return _table(heading, rows)


def _at_steps(protocol, row, steps, points):
    cells = [row.text, f"{steps:,}" if points else "not run", str(len(points))]
    cells.append(f"{statistics.mean(p['hours'] for p in points):.2g}" if points else "")
    for quantity in protocol.quantities:
        given = row.published.get(quantity)
        cells += [_mean([p[quantity] for p in points]), "" if given is None else f"{given:g}"]
    return cells


def _commands(protocol):
    lines = "".join(f"{published.command(protocol, row)}\n" for row in protocol.rows)
    return f"\nWith seed 0:\n```sh\n{lines}```\n"


def _mean(values):
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    error = statistics.stdev(values) / math.sqrt(len(values))
    digits = max(2, -math.floor(math.log10(error))) if error else 2
    return f"{statistics.mean(values):.{digits}f} ± {error:.{digits}f}"


def missing():
    """Return (model, estimator) of the records that measured models lack."""
    models = [model for model in frozen.MODELS if records.read("frozen", model)]
    pairs = [(m, item) for m in models for item in frozen.items(frozen.latents(m))]
    return [pair for pair in pairs if not records.path("frozen", *pair).exists()]
