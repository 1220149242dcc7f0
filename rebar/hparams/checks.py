"""Valid values of hyperparameters and settings, alone and in combination."""

import dataclasses
import math
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rebar import registry
from rebar.data.sources import TASKS, file_task, is_file, task_of
from rebar.errors import RebarError, did_you_mean
from rebar.hparams import grammar
from rebar.hparams.fields import OF_ESTIMATORS, OF_LAYERS, OF_PRIOR, Fields
from rebar.hparams.grammar import write

MOST_NOISE = 2**28
"""Maximum of noise numbers per step: 1 GiB."""

_INTEGER_LIMIT = 2**53
"""Integers are smaller, so that floats can be compared with them."""

_CUSTOM = {
    "model": "; to use your own estimator, pass --plugins",
    "track": "; to use your own estimator, pass --plugins",
    "network": "; to use your own model, register it (rebar.register_model) and pass --plugins",
    "task": "; to use your own data, give the path of an NPZ file that ends in .npz",
}
_KINDS = {"binary": "sigmoid belief networks", "categorical": "categorical VAEs (Cat...)"}
_REPEATED_DRAWS = {"CatGumbelRao", "CatReinMaxRao", "CatReinMaxCV"}
"""Models with mc_samples draws of the noise per sample."""


def refuse(what: str, problems: list[str], note: str = "") -> None:
    """Raise a RebarError that lists all problems, then a note, if there are any problems."""
    if len(problems) == 1:
        raise RebarError(f"{what}: {problems[0]}{note}")
    if problems:
        bullets = "".join(f"\n  - {problem}" for problem in problems)
        raise RebarError(f"{what}, {len(problems)} problems:{bullets}{note}")


def convert(record: Any) -> list[str]:
    """Convert the values of a record of `field`s to the types of its defaults.

    Returns:
      A message for every value of another type, out of range, or not among the choices.
    """
    problems = []
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        try:
            value = grammar.typed(value, field.default)
        except (TypeError, OverflowError) as error:
            problems.append(f"{field.name}={value!r}: {error}")
        else:
            if field.name == "latents":  # [200, "8x4"] in Python
                value = tuple(map(str, value))
            if field.name == "task" and is_file(value := os.fspath(value)):
                try:
                    object.__setattr__(record, field.name, file_task(value))
                except RebarError as error:
                    problems.append(f"task={value!r}: {error}")
                continue
            object.__setattr__(record, field.name, value)
            problems += _of_value(field, value)
    return problems


def _of_value(field: dataclasses.Field, value: Any) -> Iterator[str]:
    """Yield the problems of one value of the right type."""
    limit, choices = field.metadata["limit"], field.metadata["choices"]()
    if isinstance(value, int) and abs(value) >= _INTEGER_LIMIT:
        yield f"{field.name}={value!r}: must be below 2**53 in size"
    elif limit and not limit.test(value):
        yield f"{field.name}={write(value)}: must be {limit.text}"
    for item in value if isinstance(value, tuple) else (value,):
        name = grammar.call(item)[0] if field.name in ("track", "follow") else item
        if choices and name not in choices:
            custom = _CUSTOM.get(field.name, "")
            near = did_you_mean(item, choices)
            yield f"{field.name}={item!r}: choose from {', '.join(choices)}{custom}{near}"


def custom_defaults() -> dict[str, Any]:
    """Return name -> default of all hyperparameters that registered estimators declare.

    Raises:
      RebarError: one has the name of a hyperparameter of all models.
    """
    defaults = registry.custom_hparams()
    clashes = [field.name for field in dataclasses.fields(Fields) if field.name in defaults]
    if clashes:
        raise RebarError(
            f"{', '.join(clashes)}: declared by an estimator, but a hyperparameter of all models; "
            "rename it in rebar.register(..., hparams=...)"
        )
    return defaults


def custom(h: Fields, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Complete the hyperparameters that the estimators in use declare.

    Returns:
      Name -> value of all of them, and messages about values that are invalid or do not apply.
    """
    defaults, problems = custom_defaults(), []
    network = h.network if h.custom_network else ""
    complete = registry.custom_hparams(h.model, *tracked(h).values(), network=network)
    for name, value in values.items():
        if name not in defaults:
            problems.append(grammar.unknown(name, defaults))
            continue
        try:
            value = grammar.typed(value, defaults[name])
        except (TypeError, OverflowError) as error:
            problems.append(f"{name}={value!r}: {error}")
            continue
        if isinstance(value, int | float) and not abs(value) < _INTEGER_LIMIT:
            problems.append(f"{name}={value!r}: must be finite and below 2**53 in size")
        elif isinstance(value, str) and (value != value.strip() or set(value) & set(",[]")):
            problems.append(f"{name}={value!r}: must not contain commas, brackets or outer spaces")
        elif name in complete:
            complete[name] = value
        elif value != defaults[name]:
            problems.append(f"{name}={write(value)}: does not apply to {_model(h)}; remove it")
    return complete, problems


def conflicts(h: Fields) -> list[str]:
    """Return a message for every invalid combination of values that are valid by themselves."""
    rules = (_track, _kinds, _layers, _images, _pixels, _prior, _noise, _rows, _samples, _bound)
    problems = [problem for rule in rules for problem in rule(h)]
    return problems or [problem for text in tracked(h) for problem in _of_member(h, text)]


def member(h: Fields, text: str) -> tuple[dict[str, Any], list[str]]:
    """Return values that an item of `track` changes, and messages about problems."""
    label, settings = grammar.call(text)
    name = registry.labels(h.entry.latents)[label]
    current = {field: getattr(h, field) for field in OF_ESTIMATORS} | registry.custom_hparams(name)
    current.pop("forward_temperature", None)  # the posterior's, which all estimators share
    values, problems = grammar.parse(settings, current)
    return {"model": name, "track": Fields.track, "follow": Fields.follow, **values}, problems


def _of_member(h, text):
    """Yield the problems of an item of `track` with settings."""
    changes, problems = member(h, text)
    if _settings(text) and not problems:
        values = {field.name: getattr(h, field.name) for field in dataclasses.fields(Fields)}
        declared = {name: changes.pop(name) for name in [*changes] if name not in values}
        draft = Fields(**values | changes)
        problems = convert(draft) or [*conflicts(draft), *custom(draft, declared)[1]]
    yield from (f"{text}: {problem}" for problem in problems)


def _track(h):
    labels = registry.labels(h.entry.latents)
    repeated = sorted({label for label in h.track if h.track.count(label) > 1})
    others = [text for text in h.track if grammar.call(text)[0] not in labels]
    if repeated:
        yield f"track={write(h.track)}: {', '.join(repeated)} more than once; remove the repetition"
    if h.follow not in h.track:
        tracker = next(n for n in registry.names(h.entry.latents) if registry.entry(n).tracks)
        other = "" if h.entry.tracks else f"; {h.model} tracks none, only {tracker} does"
        yield (
            f"follow={h.follow}: not in track={write(h.track)}; add it, or follow one of those"
            f"{other}"
        )
    if h.entry.tracks and others:
        first, second, *_ = labels
        yield (
            f"track={write(h.track)}: {h.model} cannot track {', '.join(others)}; choose from "
            f"{', '.join(labels)}, e.g. track=[{first},{second}],follow={first}"
        )


def _kinds(h):
    for field in dataclasses.fields(Fields):
        kind, value = field.metadata["latents"], getattr(h, field.name)
        replaced = h.latents and field.name in OF_LAYERS  # see _layers
        if value != field.default and not (h.applies(field.name) or replaced):
            yield (
                f"{field.name}={write(value)}: applies only to {_KINDS[kind]}, not to {_model(h)}; "
                "remove it"
            )


def _model(h):
    """The hyperparameters that determine the kind of model."""
    network = f",network={h.network}" * h.custom_network
    return f"model={h.model}{network}" + f",latents={write(h.latents)}" * bool(h.latents)


def _layers(h):
    if not h.latents:
        return
    default = vars(Fields)
    sizes = [f"{n}={getattr(h, n)}" for n in OF_LAYERS if getattr(h, n) != default[n]]
    if sizes:
        yield f"latents={write(h.latents)}: replaces {', '.join(sizes)}; remove one or the other"
    for name, entry in _in_use(h).items():
        if missing := h.families.difference(entry.families):
            similar = {n: registry.entry(n) for n in registry.names(entry.latents)}
            able = [n for n, e in similar.items() if h.families <= {*e.families} and not e.tracks]
            yield (
                f"latents={write(h.latents)}: {name} does not support {' or '.join(missing)} "
                f"layers; choose from {', '.join(able)}"
            )


def _images(h):
    task = task_of(h.task)
    if not h.belief_network and task.conditional:
        able = [name for name, other in TASKS.items() if not other.conditional]
        yield f"task={h.task}: unsupported by {_model(h)}; choose from {', '.join(able)}"
    if h.belief_network and task.gray and h.likelihood == "bernoulli":
        same = {name: other for name, other in TASKS.items() if other.data_set == task.data_set}
        binary = next((name for name, other in same.items() if not other.gray), "sbn")
        yield (
            f"task={h.task}: has grayscale images, but {_model(h)} models binary ones; choose "
            f"task={binary} (with dynamic_b=true to binarize images anew at each use), or "
            "likelihood=gaussian"
        )
    if task.gray and h.dynamic_b:
        yield f"dynamic_b=True: unsupported by task={h.task}, which keeps grayscale; remove one"
    if task.conditional and h.n_input % 2:
        yield (
            f"n_input={h.n_input}: must be even for task={h.task}, which splits images into two "
            "halves; use 0 to follow the data set"
        )
    if task.conditional and h.prior == "uniform" and h.belief_network:
        yield f"prior=uniform: unsupported by task={h.task}, whose prior is a network; remove it"


def _pixels(h):
    if h.likelihood != "gaussian" or h.custom_network:
        return
    task = task_of(h.task)
    if not (task.gray or task.is_custom):
        able = [name for name, other in TASKS.items() if other.gray]
        yield (
            f"likelihood=gaussian: models grayscale images, but task={h.task} has binary ones; "
            f"choose from {', '.join(able)}, or PATH.npz"
        )
    for name in ("dynamic_b", "legacy2017"):
        if getattr(h, name):
            yield f"{name}=True: unsupported by likelihood=gaussian; remove one of them"


def _prior(h):
    changed = [name for name in OF_PRIOR if getattr(h, name) != getattr(Fields, name)]
    if changed and h.fixed_prior:
        given, fixed = (
            ",".join(f"{n}={write(getattr(source, n))}" for n in changed) for source in (h, Fields)
        )
        yield f"{given}: without effect on a uniform prior; set {fixed}, or prior=learned"


def _noise(h):
    width = ("n_hidden", "n_layer") if h.belief_network else ("n_latents", "n_categories")
    names = ("batch_size", "n_samples", *(() if h.latents or h.custom_network else width))
    factors = {name: getattr(h, name) for name in names}
    if h.latents:
        factors["width of latents"] = sum(map(math.prod, h.layers))
    if h.continuation == "independent":
        factors["(n_layer + 1) / 2 with continuation=independent"] = (len(h.layers) + 1) / 2
    if _REPEATED_DRAWS.intersection(_in_use(h)):
        factors["mc_samples"] = h.mc_samples
    noise = math.prod(factors.values())
    if noise > MOST_NOISE:
        yield (
            f"{' * '.join(factors)} = {noise:.3g}: must be at most {MOST_NOISE} numbers of noise "
            "per step (1 GiB); reduce one of them"
        )


def _rows(h):
    for name, entry in _in_use(h).items():
        of_bound = h.multi_sample and entry.multi_sample  # compares examples, not rows
        factors = {"batch_size": h.batch_size, "n_samples": 1 if of_bound else h.n_samples}
        if math.prod(factors.values()) < entry.min_rows:
            yield (
                f"batch_size={h.batch_size},n_samples={h.n_samples}: {name} compares each value "
                f"with the mean of the others (leave-one-out); raise "
                f"{'batch_size' if of_bound else ' * '.join(factors)} to at least {entry.min_rows}"
            )


def _samples(h):
    limits, entries = [], _in_use(h)
    for name, entry in entries.items():
        name = name if name == h.model else entry.label
        if h.n_samples % entry.samples:
            limits.append(f"a multiple of {entry.samples} for {name}")
        elif h.n_samples < entry.min_samples:
            limits.append(f"at least {entry.min_samples} for {name}")
    if limits:
        suitable = registry.suitable_samples(entries.values(), h.n_samples)
        alternative = ", or remove them from track" if len(entries) > 1 else ""
        yield (
            f"n_samples={h.n_samples}: must be {', '.join(limits)}; set n_samples={suitable}"
            f"{alternative}"
        )


def _bound(h):
    entries = {name: entry for name, entry in _in_use(h).items() if not entry.tracks}
    unable = [name for name, entry in entries.items() if not entry.multi_sample]
    if h.multi_sample and unable:
        able = ", ".join(name for name in registry.names() if registry.entry(name).multi_sample)
        yield f"multi_sample=True: unsupported by {', '.join(unable)}; choose from {able}"


def inferred(h: Fields, typed: Collection[str]) -> dict[str, Any]:
    """Infer values that follow from `track` and were not typed.

    `follow` becomes the first of `track` unless its default is tracked, and `n_samples` the
    smallest number that suits all of them.
    """
    pairs = tracked(h)
    if "track" not in typed or not pairs or len(pairs) < len({*h.track}):
        return {}
    entries = [registry.entry(n) for t, n in pairs.items() if "n_samples" not in _settings(t)]
    suitable = registry.suitable_samples(entries, h.n_samples)
    changes = {
        "follow": h.follow if h.follow in h.track else h.track[0],
        "n_samples": suitable,
    }
    return {n: v for n, v in changes.items() if n not in typed and v != getattr(h, n)}


def tracked(h) -> dict[str, str]:
    """Item of `track` -> name of its model, if the model is one that tracks."""
    labels = registry.labels(h.entry.latents) if h.entry.tracks else {}
    pairs = ((text, grammar.call(text)[0]) for text in h.track)
    return {text: labels[label] for text, label in pairs if label in labels}


def _settings(text) -> dict[str, str]:
    """Name -> text of the settings of an item of `track`."""
    return dict(grammar.clauses(grammar.call(text)[1]))


def _in_use(h) -> dict[str, registry.Entry]:
    """Model name -> entry of the model and of those that it tracks with the settings of the run."""
    others = [name for text, name in tracked(h).items() if not _settings(text)]
    return {name: registry.entry(name) for name in (h.model, *others)}
