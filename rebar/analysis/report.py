"""The table of one analysis, see docs/bias_and_variance.md."""

import pandas as pd

from rebar.analysis.bias_variance import NO_BIAS

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
    """Format the record of `analyze`, with a "title"."""
    reference, estimators = record["reference"], record["estimators"]
    cells = [[_cell(values, name) for _, name in _COLUMNS] for values in estimators.values()]
    headings = [f" {heading}" for heading, _ in _COLUMNS]
    frame = pd.DataFrame(cells, index=list(estimators), columns=headings)
    lines = [
        record["title"],
        f"gradient e of {_GRADIENTS[record['by']]}; {record['batch_size']} images, "
        f"{record['draws']} draws; |e| = {reference['norm']:.3g}",
        _reference_line(reference),
        frame.loc[:, (frame != "").any()].to_string(),
        *_notes(estimators),
    ]
    return "\n".join(lines)


def _cell(values, name) -> str:
    seen, limit = values["bias_seen"], values.get(f"{name}_limit")
    if name == "+-":
        return f"{values['standard_error']['relative_bias']:.3g}" if seen else ""
    if limit is not None and not seen:
        return f"<{limit:.3g}"
    return f"{values[name]:.3g}" if name in values else ""


def _reference_line(reference) -> str:
    if reference["kind"] == "exact":
        states = reference["states"]
        line = f"e is exact: {f'{states} states of the latents' if states else 'in closed form'}"
        if images := reference.get("effective_images"):
            line += f"; it comes from effectively {images:.3g} images"
        return line
    line = (
        f"e is the mean of {reference['draws']} leave-one-out estimates of {reference['samples']} "
        f"samples; its standard error, {reference['relative_error']:.3g} |e|, is subtracted"
    )
    if not reference["relative_error"] < 0.5:
        line += "\nNOTE: that is large; increase --draws"
    return line


def _notes(estimators) -> list[str]:
    notes = []
    if not all(values["bias_seen"] for values in estimators.values()):
        notes.append(NO_BIAS)
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
