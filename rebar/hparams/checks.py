"""Rules for hyperparameters beyond their types: ranges, choices, and how they go together."""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rebar import registry
from rebar.data.sources import TASKS
from rebar.errors import did_you_mean
from rebar.hparams import grammar

MOST_NOISE = 2**28
"""Numbers of noise a step: a gigabyte."""

_MOST_WHOLE = 2**53
"""Whole numbers stay below, so that floats can be compared with them."""

_DRAWING = {"CatGumbelRao", "CatReinMaxRao", "CatReinMaxCV"}
"""Models whose noise is drawn mc_samples times for each sample."""


def problems(fields: Mapping, values: Mapping[str, Any], bad: set[str]) -> Iterator[str]:
    """What is wrong with typed values; rules that involve a name in `bad` are left out.

    Args:
      fields: name -> dataclass field of `HParams`, whose metadata say what is allowed.
      values: name -> value of the field's type.
      bad: names whose value could not be read.
    """

    def known(*names):
        return bad.isdisjoint(names)

    huge = {n for n, v in values.items() if isinstance(v, int) and abs(v) >= _MOST_WHOLE} - bad
    yield from (f"{name}: must be below 2**53 in size" for name in sorted(huge))
    bad = bad | huge
    for name, field in fields.items():
        if not known(name):
            continue
        value, allowed = values[name], field.metadata["allowed"]
        if allowed and not allowed[0](value):
            yield f"{name}={value!r}: must be {allowed[1]}"
        choices = field.metadata["choices"]
        for item in value if isinstance(value, tuple) else (value,):
            if choices and item not in choices():
                own = "; a custom one needs --plugins" if name in ("model", "track") else ""
                near = did_you_mean(item, choices())
                yield f"{name}={item!r}: choose from {', '.join(choices())}{own}{near}"
            elif isinstance(item, str) and re.search(r"[,\[\]\s]", item):
                yield f"{name}={item!r}: a name cannot hold a comma, bracket or space"

    if known("track"):
        twice = sorted({label for label in values["track"] if values["track"].count(label) > 1})
        if twice:
            yield f"track names {', '.join(twice)} more than once; name each estimator once"
    if known("track", "follow"):
        follow, track = values["follow"], values["track"]
        # Labels that do not exist are reported above.
        if follow not in track and {follow, *track} <= set(registry.all_labels()):
            yield (
                f"follow={follow} is not in track={grammar.write(track)}; "
                "add it to track or follow one of those"
            )
    if known("model"):
        yield from _of_other_models(fields, values)
    if known("model", "task", "dynamic_b"):
        yield from _unsuited_task(values)
    task = TASKS.get(values["task"]) if known("task", "n_input") else None
    if task and task.conditional and values["n_input"] % 2:
        yield (
            f"n_input={values['n_input']} with task={values['task']}: the image is split into two "
            "halves, so n_input must be even (0 follows the data set)"
        )
    categorical = known("model") and _latents(values) == "categorical"
    width = ("n_latents", "n_categories") if categorical else ("n_hidden", "n_layer")
    sizes = ("batch_size", "n_samples", *width)
    if known(*sizes, "continuation"):
        noise = math.prod(max(1, values[name]) for name in sizes)
        product = " * ".join(sizes)
        if values["continuation"] == "independent":
            noise *= (max(1, values["n_layer"]) + 1) / 2
            product += " * (n_layer + 1) / 2 with continuation=independent"
        if known("model", "track", "mc_samples") and _DRAWING.intersection(_in_use(values)):
            noise *= max(1, values["mc_samples"])
            product += " * mc_samples"
        if noise > MOST_NOISE:
            yield (
                f"{product} = {noise:.3g} numbers of noise a step; at most "
                f"{MOST_NOISE} (a gigabyte) are allowed, so make one of them smaller"
            )
    if known("model", "track", "batch_size", "n_samples"):
        yield from _too_few(values)
        yield from _tracked_samples(values)
    if known("model", "track", "multi_sample", "batch_size") and values["multi_sample"]:
        yield from _not_for_bound(values)


def _latents(values: Mapping[str, Any]) -> str | None:
    """Of the model; None if there is no such model."""
    model = values["model"]
    return registry.entry(model).latents if model in registry.names() else None


_FAMILIES = {"binary": "sigmoid belief networks", "categorical": "categorical VAEs (Cat...)"}


def _of_other_models(fields, values) -> Iterator[str]:
    """Messages where something is set, or tracked, that the model does not have."""
    latents = _latents(values)
    if latents is None:
        return
    for name, field in fields.items():
        of = field.metadata["latents"]
        if of not in (None, latents) and values.get(name, field.default) != field.default:
            yield (
                f"{name}={grammar.write(values[name])} is of {_FAMILIES[of]}, but "
                f"model={values['model']}; leave it out"
            )
    if registry.entry(values["model"]).tracks and "track" in values:
        labels, known = registry.labels(latents), registry.all_labels()
        other = [v for v in values["track"] if v in known and v not in labels]
        if other:
            yield (
                f"track={grammar.write(values['track'])}: {', '.join(other)} cannot be tracked by "
                f"{values['model']}; choose from {', '.join(labels)}, and say which one to follow "
                f'(e.g. "track=[{",".join(list(labels)[:2])}],follow={next(iter(labels))}")'
            )


def _unsuited_task(values) -> Iterator[str]:
    """Messages where the task's images are not what the model, or dynamic_b, is for."""
    name, task, latents = values["task"], TASKS.get(values["task"]), _latents(values)
    if task is None or latents is None:
        return
    if latents == "categorical" and task.conditional:
        able = [other for other, t in TASKS.items() if not t.conditional]
        yield f"task={name} is conditional, and {values['model']} is not; choose from " + ", ".join(
            able
        )
    if task.gray and latents == "binary":
        binary = {"mnist": "sbn", "fashion_mnist": "fashion"}.get(task.data_set, task.data_set)
        yield (
            f"task={name} has grayscale images, but {values['model']} models binary ones; "
            f"give task={binary} (with dynamic_b=true for images that are binarized anew each time)"
        )
    if task.gray and values["dynamic_b"]:
        yield f"dynamic_b=True binarizes images, but task={name} has grayscale ones; remove one"


def _tracked(values: Mapping[str, Any]) -> list[str]:
    """Names of the models in `track`, if the model is the one that tracks."""
    model = values["model"]
    if model not in registry.names() or not registry.entry(model).tracks:
        return []
    labels = registry.labels(registry.entry(model).latents)
    return [labels[label] for label in values["track"] if label in labels]


def _tracked_samples(values: Mapping[str, Any]) -> Iterator[str]:
    """One message where n_samples does not suit all that is tracked, with a number that does."""
    samples = values["n_samples"]
    entries = [registry.entry(name) for name in _tracked(values)]
    wrong = []
    for entry in entries if samples >= 1 else ():
        if samples % entry.samples:
            wrong.append(f"{entry.label} needs a multiple of {entry.samples}")
        elif samples < entry.min_samples:
            wrong.append(f"{entry.label} needs at least {entry.min_samples}")
    if wrong:
        yield (
            f"the estimators in track share the samples of an example, and n_samples={samples} "
            f"does not suit all of them: {', '.join(wrong)}; give "
            f"n_samples={_n_samples_for(entries, samples)}, or leave them out of track"
        )


def _in_use(values: Mapping[str, Any]) -> list[str]:
    """Model names of the estimators that these values build: the model, and those it tracks."""
    names = [values["model"]] if values["model"] in registry.names() else []
    names += _tracked(values)
    return list(dict.fromkeys(names))


def _not_for_bound(values: Mapping[str, Any]) -> Iterator[str]:
    """A message where multi_sample=true is asked of an estimator that cannot follow the bound."""
    in_use = [name for name in _in_use(values) if not registry.entry(name).tracks]
    unable = [name for name in in_use if not registry.entry(name).multi_sample]
    if unable:
        able = [name for name in registry.names() if registry.entry(name).multi_sample]
        yield (
            f"multi_sample=True: {', '.join(unable)} cannot follow the multi-sample bound; "
            f"those that can: {', '.join(able)}"
        )
    for name in in_use:
        least = registry.entry(name).min_rows
        if 1 <= values["batch_size"] < least and name not in unable:
            yield (
                f"{name} with multi_sample=True compares the bounds of different examples, but "
                f"batch_size={values['batch_size']}; give batch_size={least} or more"
            )


def inferred(values: Mapping[str, Any], typed: Collection[str]) -> dict[str, Any]:
    """Values that follow from `track` where they were not typed.

    `follow` becomes the first of `track` unless its default is tracked, and `n_samples` the
    smallest number that suits all of them.
    """
    entries = [registry.entry(name) for name in _tracked(values)]
    if "track" not in typed or not entries or len(entries) < len(values["track"]):
        return {}
    changes: dict[str, Any] = {}
    if "follow" not in typed and values["follow"] not in values["track"]:
        changes["follow"] = values["track"][0]
    suitable = _n_samples_for(entries, values["n_samples"])
    if "n_samples" not in typed and suitable != values["n_samples"]:
        changes["n_samples"] = suitable
    return changes


def _n_samples_for(entries, least: int) -> int:
    """The smallest number of samples, `least` or more, that suits several estimators."""
    step = math.lcm(*(entry.samples for entry in entries))
    least = max(least, *(entry.min_samples for entry in entries))
    return math.ceil(least / step) * step


def _too_few(values: Mapping[str, Any]) -> Iterator[str]:
    """A message where an estimator in use needs more rows or samples than a minibatch has."""
    tracked = _tracked(values)
    batch, samples = values["batch_size"], values["n_samples"]
    for name in _in_use(values):
        entry = registry.entry(name)
        if 1 <= batch * samples < entry.min_rows:
            yield (
                f"{name} needs batch_size * n_samples of at least {entry.min_rows}, "
                f"but batch_size={batch} and n_samples={samples} give "
                f"{batch * samples}: it compares each row with the mean of the others "
                "(leave-one-out)"
            )
        if name in tracked:
            continue  # All of them share n_samples, so one message is for all.
        wanted = entry.n_samples(samples)
        if 1 <= samples != wanted:
            what = (
                f"takes the samples of an example {entry.samples} at a time"
                if samples % entry.samples
                else "compares the samples of an example with one another"
            )
            more = " or more" if entry.samples == 1 else ""
            yield f"{name} {what}, but n_samples={samples}; give n_samples={wanted}{more}"
