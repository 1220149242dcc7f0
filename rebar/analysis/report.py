"""The table of one analysis, see docs/bias_and_variance.md."""

import math

import pandas as pd

from rebar.analysis.bias_variance import SEEN

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
"""Heading and name of each column."""

_GRADIENTS = {
    "logits": "the reconstruction term w.r.t. the posterior logits of each image",
    "weights": "-mean ELBO w.r.t. the weights of the inference network",
}
_CONTROLS = {"of the run": "as trained by the run", "initial": "at their initial values"}


def table(record: dict) -> str:
    """Format the record of an `Analyzer`, with a "title"."""
    reference, estimators = record["reference"], record["estimators"]
    frame = pd.DataFrame(
        [_cells(values) for values in estimators.values()],
        index=list(estimators),
        columns=[f" {heading}" for heading, _ in _COLUMNS],
    )
    lines = [
        record["title"],
        f"gradient e of {_GRADIENTS[record['by']]}; {record['batch_size']} images, "
        f"{record['draws']} draws; |e| = {_short(reference['norm'])}",
        _reference_line(reference),
        frame.loc[:, (frame != "").any()].to_string(),
        *_notes(estimators),
    ]
    return "\n".join(lines)


def _reference_line(reference) -> str:
    if reference["kind"] == "exact":
        line = f"e is exact: {reference['states']} states of the latents"
        if "effective_images" in reference:
            line += f"; it comes from effectively {_short(reference['effective_images'])} images"
        return line
    line = (
        f"e is the mean of {reference['draws']} leave-one-out estimates of {reference['samples']} "
        f"samples; its standard error, {_short(reference['relative_error'])} |e|, is subtracted"
    )
    if not reference["relative_error"] < 0.5:
        line += "\nNOTE: that is large; increase --reference_draws or --reference_samples"
    return line


def _cells(values) -> list[str]:
    cells = []
    for _, name in _COLUMNS:
        seen, limit = values["bias_seen"], values.get(f"{name}_limit")
        if name == "+-":
            cells.append(_short(values["standard_error"]["relative_bias"]) if seen else "")
        elif limit is not None and not seen:
            cells.append(f"<{_short(limit)}")
        else:
            cells.append(_short(values[name]) if name in values else "")
    return cells


def _notes(estimators) -> list[str]:
    notes = []
    if not all(values["bias_seen"] for values in estimators.values()):
        notes.append(
            f"<: no bias detected; the number is the largest within {SEEN:g} standard errors"
        )
    if any("std_to_mean" in values for values in estimators.values()):
        notes.append(
            "std/mean: mean over images of |std|/|mean|, as published; ill-posed where posteriors "
            "saturate (a mean near 0): compare var/|e|^2"
        )
    labels: dict = {}
    for label, values in estimators.items():
        objective, control = values["objective"], values["control"]
        if objective != "elbo":
            labels.setdefault(f"compared with the gradient of the {objective}", []).append(label)
        if control in _CONTROLS:
            labels.setdefault(f"control variates {_CONTROLS[control]}", []).append(label)
    return notes + [f"{text}: {', '.join(of)}" for text, of in labels.items()]


def _short(number: float) -> str:
    return f"{number:.3g}" if math.isfinite(number) else "-"
