"""What was measured at one checkpoint, as a record for JSON and as a table for the terminal."""

import math
from collections.abc import Sequence

import numpy as np

from rebar.analysis.bias_variance import SEEN, Reference

_COLUMNS = (
    ("bias", "bias"),
    ("bias/|e|", "relative_bias"),
    ("+-", "+-"),
    ("cosine", "cosine"),
    ("of E g", "expected_cosine"),
    ("variance", "variance"),
    ("var/|e|^2", "relative_variance"),
    ("mse/|e|^2", "relative_mse"),
    ("snr", "snr"),
    ("std/mean", "std_to_mean"),
    ("f", "evaluations"),
    ("ms", "milliseconds"),
)
"""Heading and name of the table's numbers."""

_BY = {
    "logits": "the reconstruction term by the posterior logits of each image",
    "weights": "-mean ELBO by the weights of the inference network",
}


def reference_record(reference: Reference) -> dict:
    """The reference in JSON values.

    "norm" is |e|, "error" the mean |reference - exact|^2, "relative_error" its root beside |e|.
    """
    norm = math.sqrt(max(reference.square, 0))
    root = math.sqrt(reference.error)
    return {
        **reference.about,
        "norm": norm,
        "error": reference.error,
        "relative_error": root / norm if norm else math.nan,
    }


def plain(value):
    """JSON values of a record: null for what is not finite."""
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def table(record: dict) -> str:
    """The table of one checkpoint; see docs/bias_and_variance.md for the columns.

    Args:
      record: "title", "by", "batch_size", "draws", "reference" and "estimators".
    """
    reference = record["reference"]
    lines = [
        record["title"],
        f"gradient e of {_BY[record['by']]}; {record['batch_size']} images, {record['draws']} "
        f"draws; |e| = {_short(reference['norm'])}",
        _reference_line(reference),
    ]
    rows = [["", *(heading for heading, _ in _COLUMNS)]]
    estimators = record["estimators"]
    rows += [[label, *_cells(values)] for label, values in estimators.items()]
    shown = [i for i in range(len(rows[0])) if i == 0 or any(row[i] for row in rows[1:])]
    widths = [max(len(row[i]) for row in rows) for i in shown]
    lines += ["  ".join(_padded(row, shown, widths)).rstrip() for row in rows]
    return "\n".join([*lines, *_notes(estimators)])


def _reference_line(reference) -> str:
    if reference["kind"] == "exact":
        line = f"e is exact: {reference['states']} states of the latents"
        if "effective_images" in reference:
            line += f"; it comes from {_short(reference['effective_images'])} images in effect"
        return line
    line = (
        f"e is the mean of {reference['draws']} leave-one-out estimates of {reference['samples']} "
        f"samples; its own standard error, {_short(reference['relative_error'])} |e|, is taken off"
    )
    if not reference["relative_error"] < 0.5:
        line += (
            "\nNOTE: that is most of what is left to see: give more --reference_draws or "
            "--reference_samples"
        )
    return line


def _cells(values) -> Sequence[str]:
    errors = values["standard_error"]
    cells = []
    for _, name in _COLUMNS:
        if name == "+-":
            cells.append(_short(errors["relative_bias"]) if values["bias_seen"] else "")
        elif name in ("bias", "relative_bias") and not values["bias_seen"]:
            limit = values["bias_limit" if name == "bias" else "relative_bias_limit"]
            cells.append(f"<{_short(limit)}")
        else:
            cells.append(_short(values[name]) if name in values else "")
    return cells


def _notes(estimators) -> list[str]:
    notes = []
    if not all(values["bias_seen"] for values in estimators.values()):
        notes.append(
            f"<: no bias seen; the largest within {SEEN:g} standard errors of the square is given"
        )
    if any("std_to_mean" in values for values in estimators.values()):
        notes.append(
            "std/mean: mean over images of |std|/|mean|, as published; ill-posed where posteriors "
            "saturate (a mean near 0): compare var/|e|^2"
        )
    for objective in dict.fromkeys(values["objective"] for values in estimators.values()):
        found = [label for label, v in estimators.items() if v["objective"] == objective]
        if objective != "elbo":
            notes.append(f"compared with the gradient of the {objective}: {', '.join(found)}")
    for control, what in (("of the run", "as the run learned them"), ("initial", "at their start")):
        found = [label for label, v in estimators.items() if v["control"] == control]
        if found:
            notes.append(f"control variates {what}: {', '.join(found)}")
    return notes


def _padded(row, shown, widths):
    cells = [row[i] for i in shown]
    return [cells[0].ljust(widths[0])] + [
        cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)
    ]


def _short(number: float) -> str:
    return f"{number:.3g}" if math.isfinite(number) else "-"
