"""Rules for hyperparameters beyond their types: ranges, choices, and valid combinations."""

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from rebar import registry
from rebar.data.sources import TASKS
from rebar.errors import did_you_mean
from rebar.hparams.fields import Fields
from rebar.hparams.grammar import write

MOST_NOISE = 2**28
"""Maximum of noise numbers per step: 1 GiB."""

_INTEGER_LIMIT = 2**53
"""Integers are smaller, so that floats can be compared with them."""

_FAMILIES = {"binary": "sigmoid belief networks", "categorical": "categorical VAEs (Cat...)"}
_REPEATED_DRAWS = {"CatGumbelRao", "CatReinMaxRao", "CatReinMaxCV"}
"""Models with mc_samples draws of the noise per sample."""

_RULES: list[tuple[tuple, Callable]] = []


def problems(values: Mapping[str, Any], bad: Collection[str]) -> Iterator[str]:
    """Yield a message for every invalid value or combination.

    Args:
      values: name -> value of the field's type.
      bad: names whose value could not be read. Rules that need one of them, or a value that is
        invalid by itself, are skipped.
    """
    bad = set(bad)
    for field in dataclasses.fields(Fields):
        if field.name not in bad:
            messages = list(_of_field(field.name, values[field.name], field.metadata))
            yield from messages
            bad |= {field.name} if messages else set()
    for names, rule in _RULES:
        if bad.isdisjoint(names):
            yield from rule(SimpleNamespace(**values))


def _of_field(name: str, value: Any, metadata: Mapping) -> Iterator[str]:
    """Yield the problems of one value."""
    limit, choices = metadata["limit"], metadata["choices"]
    if isinstance(value, int) and abs(value) >= _INTEGER_LIMIT:
        yield f"{name}={value!r}: must be below 2**53 in size"
    elif limit and not limit.test(value):
        yield f"{name}={value!r}: must be {limit.text}"
    for item in value if isinstance(value, tuple) else (value,):
        if choices and item not in choices():
            custom = "; to use your own estimator, pass --plugins"
            custom = custom if name in ("model", "track") else ""
            near = did_you_mean(item, choices())
            yield f"{name}={item!r}: choose from {', '.join(choices())}{custom}{near}"
        elif isinstance(item, str) and re.search(r"[,\[\]\s]", item):
            yield f"{name}={item!r}: must not contain commas, brackets or spaces"


def _rule(*names: str) -> Callable:
    """Decorate a function: settings -> messages, which needs valid values of `names`."""

    def add(function):
        _RULES.append((names, function))
        return function

    return add


@_rule("track")
def _repeated(h):
    labels = sorted({label for label in h.track if h.track.count(label) > 1})
    if labels:
        yield f"track={write(h.track)}: {', '.join(labels)} more than once; remove the repetition"


@_rule("track", "follow")
def _followed(h):
    if h.follow not in h.track:
        yield f"follow={h.follow}: not in track={write(h.track)}; add it, or follow one of those"


@_rule("model")
def _inapplicable(h):
    latents = registry.entry(h.model).latents
    for field in dataclasses.fields(Fields):
        family, value = field.metadata["latents"], getattr(h, field.name, field.default)
        if family not in (None, latents) and value != field.default:
            yield (
                f"{field.name}={write(value)}: applies only to {_FAMILIES[family]}, "
                f"not to model={h.model}; remove it"
            )


@_rule("model", "track")
def _untrackable(h):
    entry = registry.entry(h.model)
    labels = list(registry.labels(entry.latents))
    others = [label for label in h.track if label not in labels]
    if entry.tracks and others:
        yield (
            f"track={write(h.track)}: {h.model} cannot track {', '.join(others)}; choose from "
            f"{', '.join(labels)}, e.g. track=[{','.join(labels[:2])}],follow={labels[0]}"
        )


@_rule("model", "task", "dynamic_b")
def _images(h):
    task, latents = TASKS[h.task], registry.entry(h.model).latents
    if latents == "categorical" and task.conditional:
        able = [name for name, other in TASKS.items() if not other.conditional]
        yield f"task={h.task}: unsupported by model={h.model}; choose from {', '.join(able)}"
    if task.gray and latents == "binary":
        binary = {"mnist": "sbn", "fashion_mnist": "fashion"}.get(task.data_set, task.data_set)
        yield (
            f"task={h.task}: has grayscale images, but {h.model} models binary ones; choose "
            f"task={binary} (with dynamic_b=true to binarize images anew at each use)"
        )
    if task.gray and h.dynamic_b:
        yield f"dynamic_b=True: unsupported by task={h.task}, which keeps grayscale; remove one"


@_rule("task", "n_input")
def _halves(h):
    if TASKS[h.task].conditional and h.n_input % 2:
        yield (
            f"n_input={h.n_input}: must be even for task={h.task}, which splits images into two "
            "halves; use 0 to follow the data set"
        )


@_rule(
    *("model", "track", "continuation", "batch_size", "n_samples", "mc_samples"),
    *("n_hidden", "n_layer", "n_latents", "n_categories"),
)
def _noise(h):
    categorical = registry.entry(h.model).latents == "categorical"
    width = ("n_latents", "n_categories") if categorical else ("n_hidden", "n_layer")
    factors = {name: getattr(h, name) for name in ("batch_size", "n_samples", *width)}
    if h.continuation == "independent":
        factors["(n_layer + 1) / 2 with continuation=independent"] = (h.n_layer + 1) / 2
    if _REPEATED_DRAWS.intersection(_in_use(h)):
        factors["mc_samples"] = h.mc_samples
    noise = math.prod(factors.values())
    if noise > MOST_NOISE:
        yield (
            f"{' * '.join(factors)} = {noise:.3g}: must be at most {MOST_NOISE} numbers of noise "
            "per step (1 GiB); reduce one of them"
        )


@_rule("model", "track", "batch_size", "n_samples")
def _rows(h):
    for name, entry in _in_use(h).items():
        if h.batch_size * h.n_samples < entry.min_rows:
            yield (
                f"batch_size={h.batch_size},n_samples={h.n_samples}: {name} compares each row with "
                "the mean of the others (leave-one-out); raise batch_size * n_samples to at least "
                f"{entry.min_rows}"
            )


@_rule("model", "track", "n_samples")
def _samples(h):
    limits, entries = [], list(_in_use(h).values())
    for name, entry in _in_use(h).items():
        name = name if name == h.model else entry.label
        if h.n_samples % entry.samples:
            limits.append(f"a multiple of {entry.samples} for {name}")
        elif h.n_samples < entry.min_samples:
            limits.append(f"at least {entry.min_samples} for {name}")
    if limits:
        alternative = ", or remove them from track" if len(entries) > 1 else ""
        yield (
            f"n_samples={h.n_samples}: must be {', '.join(limits)}; set "
            f"n_samples={_suitable_samples(entries, h.n_samples)}{alternative}"
        )


@_rule("model", "track", "multi_sample", "batch_size")
def _bound(h):
    entries = {name: entry for name, entry in _in_use(h).items() if not entry.tracks}
    unable = [name for name, entry in entries.items() if not entry.multi_sample]
    if h.multi_sample and unable:
        able = [name for name in registry.names() if registry.entry(name).multi_sample]
        yield f"multi_sample=True: unsupported by {', '.join(unable)}; choose from " + ", ".join(
            able
        )
    for name, entry in entries.items():
        if h.multi_sample and entry.multi_sample and h.batch_size < entry.min_rows:
            yield (
                f"batch_size={h.batch_size}: {name} with multi_sample=True compares the bounds of "
                f"different examples; set batch_size={entry.min_rows} or more"
            )


def inferred(values: Mapping[str, Any], typed: Collection[str]) -> dict[str, Any]:
    """Infer values that follow from `track` and were not typed.

    `follow` becomes the first of `track` unless its default is tracked, and `n_samples` the
    smallest number that suits all of them.
    """
    if "track" not in typed or values["model"] not in registry.names():
        return {}
    h = SimpleNamespace(**values)
    entries = [registry.entry(name) for name in _tracked(h)]
    if not entries or len(entries) < len(h.track):
        return {}
    changes: dict[str, Any] = {}
    if "follow" not in typed and h.follow not in h.track:
        changes["follow"] = h.track[0]
    suitable = _suitable_samples(entries, h.n_samples)
    if "n_samples" not in typed and suitable != h.n_samples:
        changes["n_samples"] = suitable
    return changes


def _tracked(h) -> list[str]:
    """Names of the models in `track`, if the model is one that tracks."""
    entry = registry.entry(h.model)
    labels = registry.labels(entry.latents) if entry.tracks else {}
    return [labels[label] for label in h.track if label in labels]


def _in_use(h) -> dict[str, registry.Entry]:
    """Model name -> entry of the model and of those that it tracks."""
    return {name: registry.entry(name) for name in (h.model, *_tracked(h))}


def _suitable_samples(entries: Collection[registry.Entry], least: int) -> int:
    """The smallest number of samples, `least` or more, that suits several estimators."""
    step = math.lcm(*(entry.samples for entry in entries))
    least = max(least, *(entry.min_samples for entry in entries))
    return math.ceil(least / step) * step
