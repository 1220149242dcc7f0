"""Names of comparisons and lines: titles, file names, and the settings that tell lines apart."""

import collections
import json
import re
from typing import Any

from rebar import registry
from rebar.compare.runs import RunLog
from rebar.hparams import HParams

OPTIONAL = ("eval_samples", "data")
"""Settings that not every log says: their absence is no difference."""

_MOST_SLUG = 150


def architecture(run: RunLog) -> dict[str, Any]:
    """Name -> value of the settings that make another model or other images."""
    if not run.hparams:
        return {}
    hparams = run.hparams
    if _categorical(run):
        return {
            "task": hparams["task"],
            "network": run.network,
            "n_categories": hparams["n_categories"],
            "n_latents": hparams["n_latents"],
            "prior": hparams["prior"],
            "conditional": run.conditional,
            "dynamic_b": hparams["dynamic_b"],
        }
    sizes = {n for n in hparams if n.startswith("n_")} - {"n_samples", "n_input"}
    return {
        "task": hparams["task"],
        "network": run.network,
        **{name: hparams[name] for name in sorted(sizes)},
        "nonlinear": hparams["nonlinear"],
        "activation": hparams["activation"] if hparams["nonlinear"] else "",
        "conditional": run.conditional,
        "dynamic_b": hparams["dynamic_b"],
    }


def settings(run: RunLog) -> dict[str, Any]:
    """Name -> value of all that must be equal within a line, but for what figures are made by."""
    if not run.hparams:
        return {"log": run.path}
    left_out = {"model", "n_input", "trial", *architecture(run)}
    if not run.tracked:
        left_out |= {"track", "follow"}
    kept = {name: value for name, value in run.hparams.items() if name not in left_out}
    kept["coupling"] = run.coupling
    if run.origin == "2017":
        kept["code"] = "2017"
    return kept


def frozen(values):
    """Settings as a string that can be compared and sorted."""
    return json.dumps(values, sort_keys=True, default=str)


def _categorical(run) -> bool:
    """Whether the run's model has categorical latents, as far as its name is known here."""
    model = run.hparams.get("model")
    return model in registry.names() and registry.entry(model).latents == "categorical"


def heading(run):
    """Task, title, and the estimator followed if others are only tracked."""
    if not run.hparams:
        return "", "task and settings not recorded", run.label if run.tracked else None
    known = architecture(run)
    categorical = _categorical(run)
    if categorical:
        title = f"task {known['task']}, {known['n_latents']} variables of "
        title += f"{known['n_categories']} categories"
        title += ", learned prior" if known["prior"] == "learned" else ""
    else:
        layers = known.get("n_layer", 1)
        title = f"task {known['task']}, {layers} stochastic layer{'s' * (layers > 1)}"
        title += f" of {known.get('n_hidden')} units"
        title += f", nonlinear ({known['activation']})" if known["nonlinear"] else ", linear"
    if known["dynamic_b"]:
        title += ", dynamic binarization"
    if known["conditional"]:
        title += f", {known['conditional']} conditional network"
    defaults = HParams().to_dict()
    named = ("n_layer", "n_hidden", "n_categories", "n_latents")
    for name, value in known.items():
        if name.startswith("n_") and name not in named and value != defaults.get(name):
            title += f", {name}={value}"
    if not categorical and "Belief" not in known["network"] and not known["conditional"]:
        title += f", {known['network']}"
    return known["task"], title, run.label if run.tracked else None


def slug(run):
    """Name of the files of a comparison, of characters that any file system takes."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", _slug(run)).lstrip(".+-")[:_MOST_SLUG] or "_"


def _slug(run):
    if not run.hparams:
        return "unknown"
    known = architecture(run)
    if _categorical(run):
        shape = f"{known['n_categories']}x{known['n_latents']}"
        parts = [known["task"], shape, *["learned"] * (known["prior"] == "learned")]
        return "-".join([*parts, *(["tracked", run.label] if run.tracked else [])])
    parts = [known["task"], f"{known.get('n_layer', 1)}x{known.get('n_hidden')}"]
    if "Belief" not in known["network"] and not known["conditional"]:
        parts.insert(1, known["network"])
    parts += [word for word in ("nonlinear", "dynamic_b") if known[word]]
    parts += ["tracked", run.label] if run.tracked else []
    return "-".join(parts).replace("dynamic_b", "dynamic")


def tell_apart(comparisons):
    """Add to titles that occur twice, of tracking runs, the settings in which they differ."""
    by_title = collections.defaultdict(list)
    for comparison in comparisons:
        by_title[(comparison.title, comparison.follow)].append(comparison)
    for group in by_title.values():
        known = [comparison.lines[0].settings for comparison in group]
        for name in sorted({name for one in known for name in one}):
            if len({frozen(one.get(name)) for one in known}) > 1:
                for comparison, one in zip(group, known, strict=True):
                    comparison.title += f", {_setting(name, one.get(name))}"


def name_lines(comparison):
    """Give lines their names: the label, and what sets a line apart from most others."""
    lines = comparison.lines
    names = sorted({name for line in lines for name in line.settings})
    values = {n: [frozen(line.settings.get(n)) for line in lines] for n in names}
    unsaid = {name: {frozen(None)} if name in OPTIONAL else set() for name in names}
    differing = [name for name in names if len(set(values[name]) - unsaid[name]) > 1]
    labels = collections.Counter(line.label for line in lines)
    for i, line in enumerate(lines):
        own = []
        for name in differing:
            if values[name][i] in unsaid[name] or name == "log" or _implied(name, line):
                continue
            compared = [j for j, other in enumerate(lines) if not _implied(name, other)]
            usual = collections.Counter(values[name][j] for j in compared).most_common(1)[0][0]
            if name == "code":
                usual = frozen(None)
            namesakes = {values[name][j] for j in compared if lines[j].label == line.label}
            if len(namesakes) > 1 or values[name][i] != usual:
                own.append(_setting(name, line.settings.get(name)))
        line.name = ", ".join([line.label, *own])
        if own and labels[line.label] > 1:
            comparison.notes.append(f"{line.name}: a line of its own, since its settings differ")
    told = [name for name in differing if name not in ("log", "data")]
    if told and len(labels) > 1:
        comparison.notes.append(
            "not only the estimators differ: "
            + "; ".join(f"{name} ({_who(lines, name)})" for name in told)
        )
    reached = {line.name: line.runs[0].last for line in lines if line.trains}
    if len(set(reached.values())) > 1:
        told = ", ".join(f"{name} {steps}" for name, steps in reached.items())
        comparison.notes.append(f"the lines do not reach the same step: {told}")


def _implied(name, line):
    """Whether a setting is what the 2017 code does anyway."""
    return "code" in line.settings and name in ("legacy2017", "coupling")


def _who(lines, name):
    by_value = collections.defaultdict(list)
    for line in lines:
        by_value[_written(line.settings.get(name))].append(line.label)
    return ", ".join(f"{value}: {' '.join(dict.fromkeys(who))}" for value, who in by_value.items())


def _setting(name, value):
    if name == "code":
        return f"{value} code" if value else "this code"
    text = _written(value)
    return f"{name}={text if len(text) < 24 else text[:20] + '...'}"


def _written(value):
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
