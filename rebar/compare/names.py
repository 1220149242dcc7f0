"""Names of comparisons and lines: titles, file names, and the settings that tell lines apart."""

import collections
import re
from typing import Any

import pandas as pd

from rebar import registry
from rebar.compare.runs import Run
from rebar.data.sources import TASKS, task_title
from rebar.hparams import HParams, grammar

_MOST_SLUG = 150
_NAMED = ("n_layer", "n_hidden", "n_categories", "n_latents")
"""Sizes that titles have in words."""


def architecture(run: Run) -> dict[str, Any]:
    """Name -> value of the settings that make another model or other images."""
    if not run.hparams:
        return {}
    hparams = run.hparams
    if _categorical(run):
        names = ["n_categories", "n_latents", "prior"]
    else:
        sizes = {name for name in hparams if name.startswith("n_")} - {"n_samples", "n_input"}
        names = [*sorted(sizes), "nonlinear", *["activation"] * hparams["nonlinear"]]
    return {
        "task": hparams["task"],
        "network": run.about.get("network", "SigmoidBeliefNetwork"),
        **{name: hparams[name] for name in names},
        "conditional": run.effective("conditional"),
        "dynamic_b": hparams["dynamic_b"],
    }


def settings(run: Run) -> dict[str, str | None]:
    """Name -> value, as typed, of all that must be equal within a line; None where unknown."""
    if not run.hparams:
        return {"log": run.path}
    left_out = {"model", "n_input", "trial", "activation", *architecture(run)}
    if not run.tracked:
        left_out |= {"track", "follow"}
    known = {**run.hparams, "coupling": run.effective("coupling"), "eval_samples": run.eval_samples}
    if run.origin == "2017":
        left_out |= {"legacy2017", "coupling"}
        known["code"] = "2017"
    else:
        known["environment"] = run.about["environment"]
    known["data"] = run.about.get("data")
    return {name: written(value) for name, value in known.items() if name not in left_out}


def written(value: Any) -> str | None:
    """A setting as it is typed."""
    if isinstance(value, bool):
        return str(value).lower()
    value = tuple(value) if isinstance(value, list) else value
    return None if value is None else grammar.write(value)


def _categorical(run) -> bool:
    """Whether the run's model has categorical latents, as far as its name is known here."""
    model = run.hparams.get("model")
    return model in registry.names() and registry.entry(model).latents == "categorical"


def title(run: Run) -> str:
    """Data set and architecture in words."""
    if not run.hparams:
        return "Unknown data set and settings"
    known = architecture(run)
    if _categorical(run):
        parts = [f"{known['n_latents']} variables of {known['n_categories']} categories"]
        parts += ["learned prior"] * (known["prior"] == "learned")
    else:
        layers = known["n_layer"]
        parts = [f"{layers} stochastic layer{'s' * (layers > 1)} of {known['n_hidden']} units"]
        parts += [f"nonlinear ({known['activation']})" if known["nonlinear"] else "linear"]
    parts += [f"{known['conditional']} conditional network"] * bool(known["conditional"])
    defaults = HParams().to_dict()
    other = [n for n in known if n.startswith("n_") and n not in _NAMED]
    parts += [f"{name}={known[name]}" for name in other if known[name] != defaults.get(name)]
    parts += [known["network"]] * _unusual_network(run, known)
    task = known["task"]
    name = task_title(task, known["dynamic_b"]) if task in TASKS else f"task {task}"
    return ", ".join([name, *parts])


def _unusual_network(run, known):
    usual = known["conditional"] or "Belief" in known["network"] or _categorical(run)
    return not usual


def slug(run: Run) -> str:
    """Name of the files of a comparison, of characters that any file system takes."""
    if not run.hparams:
        return "unknown"
    known = architecture(run)
    if _categorical(run):
        shape = f"{known['n_categories']}x{known['n_latents']}"
        parts = [known["task"], shape, *["learned"] * (known["prior"] == "learned")]
    else:
        parts = [known["task"], *[known["network"]] * _unusual_network(run, known)]
        parts += [f"{known['n_layer']}x{known['n_hidden']}", *["nonlinear"] * known["nonlinear"]]
    parts += ["dynamic"] * known["dynamic_b"]
    parts += ["tracked", run.label] if run.tracked else []
    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", "-".join(parts))
    return safe.lstrip(".+-")[:_MOST_SLUG] or "_"


def tell_apart(comparisons) -> None:
    """Add to equal titles, of tracking runs, the settings in which they differ."""
    by_title = collections.defaultdict(list)
    for comparison in comparisons:
        by_title[(comparison.title, comparison.follow)].append(comparison)
    for group in by_title.values():
        table = pd.DataFrame([comparison.lines[0].settings for comparison in group])
        for name in _differing(table):
            for comparison, value in zip(group, table[name], strict=True):
                comparison.title += f", {_setting(name, value)}"


def name_lines(comparison) -> None:
    """Name lines by their label and what sets them apart from most others; add notes."""
    lines = comparison.lines
    labels = pd.Series([line.label for line in lines])
    table = pd.DataFrame([line.settings for line in lines])
    differing = _differing(table.drop(columns="log", errors="ignore"))
    parts = [[line.label] for line in lines]
    mixed_code = "code" in table and table.code.isna().any()
    for name in [*differing, *["code"] * bool(mixed_code)]:
        values = table[name]
        usual = values.value_counts(sort=True).index[0] if name != "code" else None
        ambiguous = values.groupby(labels).nunique() > 1
        for i, value in values.dropna().items():
            if value != usual or ambiguous[labels[i]]:
                parts[i].append(_setting(name, value))
    for line, label, words in zip(lines, labels, parts, strict=True):
        line.name = ", ".join(words)
        if len(words) > 1 and (labels == label).sum() > 1:
            comparison.notes.append(f"{line.name}: a line of its own, since its settings differ")
    others = [name for name in differing if name != "data"]
    if others and labels.nunique() > 1:
        words = []
        for name in others:
            who = labels.groupby(table[name].fillna("unknown"), sort=False).unique()
            texts = [f"{value}: {' '.join(names)}" for value, names in who.items()]
            words.append(f"{name} ({', '.join(texts)})")
        comparison.notes.append(f"not only the estimators differ: {'; '.join(words)}")
    reached = {line.name: line.runs[0].last for line in lines if line.trains}
    if len(set(reached.values())) > 1:
        words = ", ".join(f"{name} {steps}" for name, steps in reached.items())
        comparison.notes.append(f"the lines do not reach the same step: {words}")


def _differing(table: pd.DataFrame) -> list[str]:
    """Settings with several known values."""
    return [name for name in sorted(table) if table[name].nunique() > 1]


def _setting(name, value):
    if name == "code":
        return f"{value} code"
    text = str(value)
    return f"{name}={text if len(text) < 24 else text[:20] + '...'}"
