"""Registry of estimators and models by name: `model=...` and `network=...` in --hparams.

Targets are "module:Class" strings, resolved on first use, so that listing the names does not import
TensorFlow.
"""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rebar import plugins
from rebar.errors import RebarError, did_you_mean, unknown
from rebar.registry.builtin import ESTIMATORS
from rebar.registry.entries import FAMILIES as FAMILIES
from rebar.registry.entries import LATENTS, Entry, ModelEntry
from rebar.registry.entries import suitable_samples as suitable_samples

_NAME = re.compile(r"[A-Za-z0-9_.+-]+")

AUTO = "auto"
"""Value of `network` for a built-in model."""

_MODELS: dict[str, ModelEntry] = {}

_ENTRIES: dict[str, Entry] = dict(ESTIMATORS)


def names(*latents: str) -> list[str]:
    """Return the names of models with such latents (by default all), in order of registration."""
    return [name for name, e in _ENTRIES.items() if e.latents in (latents or LATENTS)]


def labels(latents: str) -> dict[str, str]:
    """Return label -> name of every model with such latents that can be tracked."""
    return {e.label: n for n, e in _ENTRIES.items() if e.latents == latents and not e.tracks}


def all_labels() -> list[str]:
    """Return the labels of all estimators that can be tracked, without repetition."""
    return list(dict.fromkeys(label for latents in LATENTS for label in labels(latents)))


def entry(name: str) -> Entry:
    """Return the entry of a model name. Raises RebarError for an unknown one."""
    try:
        return _ENTRIES[name]
    except KeyError:
        raise RebarError(
            f"unknown model {name!r}; choose from {', '.join(_ENTRIES)}, or import the module that "
            f"registers it, e.g. by --plugins=MODULE{did_you_mean(name, _ENTRIES)}"
        ) from None


def register(
    name: str,
    target: str | Callable[[Any], Any],
    label: str | None = None,
    min_rows: int = 1,
    min_samples: int = 1,
    samples: int = 1,
    multi_sample: bool = False,
    latents: str = "binary",
    families: Sequence[str] = (),
    hparams: Mapping[str, Any] | None = None,
) -> None:
    """Register an estimator as `model=name`.

    Hyperparameters that it declares by `hparams` apply to it alone, and are set like all others:

        rebar.register("Mine", Mine, hparams={"my_scale": 0.5})
        rebar-train --plugins=mine --hparams="model=Mine,my_scale=0.3"

    Args:
      name: value of `model`.
      target: an `Estimator` subclass, a "module:Class" string, or a callable HParams -> Estimator.
      label: name in `track=[...]` and in logs; by default `name`.
      min_rows, min_samples, samples, multi_sample, latents, families: see `Entry`.
      hparams: name -> default, a bool, int, float or str, which determines the type.

    Raises:
      RebarError: a registered or invalid name or label, an invalid target, latents, families or
        hparams.
    """
    label = label or name
    for text in (name, label):
        if not isinstance(text, str) or not _NAME.fullmatch(text):
            raise RebarError(
                f"{text!r}: invalid name or label of an estimator; use letters, digits and _ - . +"
            )
    if not callable(target) and not (isinstance(target, str) and ":" in target):
        raise RebarError(
            f"target={target!r} of {name}: must be an Estimator class, a function of HParams or a "
            'string "module:Class"'
        )
    if hasattr(target, "estimate") != isinstance(target, type):
        raise RebarError(
            f"target={target!r} of {name}: must be a subclass of rebar.Estimator or a function; "
            "pass the class instead of an instance"
        )
    entry = Entry(target, label, min_rows, min_samples, samples, multi_sample, latents, families)
    if name in _ENTRIES or label in labels(latents):
        raise RebarError(
            f"model {name!r} (label {label!r}): already registered; choose another name"
        )
    declared, module = _declared(name, hparams), plugins.calling_module()
    _ENTRIES[name] = dataclasses.replace(entry, hparams=declared, module=module)


def register_model(
    name: str, factory: str | Callable[..., Any], hparams: Mapping[str, Any] | None = None
) -> None:
    """Register a model as `network=name`.

        rebar.register_model("ConvVAE", lambda hparams, mean: ConvVAE(hparams.n_hidden, mean))

    Args:
      name: value of `network`.
      factory: function that returns a new model, or a "module:function" string. It may have the
        arguments hparams, mean ([D], of the training images), image_shape (h, w) and seed (of the
        initial weights). The model is one of

        - an object with the protocol `rebar.types.Model`,
        - a Keras layer or model, or another object with trainable_variables, that has a method
          objective(sample, x), see `rebar.estimate`; x is [N, D], one row per sample,
        - an objective, and a list of variables, layers and models that it uses.
      hparams: name -> default of additional hyperparameters, as in `register`.

    Raises:
      RebarError: a registered or invalid name, or an invalid factory or hparams.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RebarError(f"{name!r}: invalid name of a model; use letters, digits and _ - . +")
    if name in models():
        raise RebarError(f"network {name!r}: already registered; choose another name")
    if not callable(factory) and not (isinstance(factory, str) and ":" in factory):
        raise RebarError(
            f"factory={factory!r} of {name}: must be a function or a string "
            '"module:function"; pass e.g. lambda hparams, mean: MyModel(mean)'
        )
    _MODELS[name] = ModelEntry(factory, _declared(name, hparams), plugins.calling_module())


def _declared(name, hparams):
    """Return declared hyperparameters of an estimator or a model; RebarError if invalid."""
    hparams = dict(hparams or {})
    for parameter, default in hparams.items():
        if not (isinstance(parameter, str) and parameter.isidentifier()):
            raise RebarError(f"hparams={hparams} of {name}: names must be identifiers; rename them")
        if not isinstance(default, bool | int | float | str):
            raise RebarError(
                f"{parameter}={default!r}: the default must be a bool, int, float or str; change it"
            )
        others = custom_hparams()
        if parameter in others and repr(others[parameter]) != repr(default):
            raise RebarError(
                f"{parameter}={default!r}: another estimator or model declares {parameter}="
                f"{others[parameter]!r}; use the same default, or another name"
            )
    return hparams


def models() -> list[str]:
    """Return the values of `network`."""
    return [AUTO, *_MODELS]


def model(name: str) -> ModelEntry:
    """Return the entry of a registered value of `network`. Raises RebarError for others."""
    if name not in _MODELS:
        raise unknown("network", name, models())
    return _MODELS[name]


def custom_hparams(*names: str, network: str = "") -> dict[str, Any]:
    """Return name -> default of what estimators and a network (by default all) declare."""
    owners: list[Any] = [entry(name) for name in names or _ENTRIES]
    if network or not names:
        owners += [e for n, e in _MODELS.items() if network in ("", n)]
    return {parameter: value for owner in owners for parameter, value in owner.hparams.items()}


def target(name: str) -> Any:
    """Return the class or function of a model name; strings are resolved."""
    return resolved(entry(name).target)


def resolved(target: str | Callable[..., Any]) -> Any:
    """Return the object that a "module:name" string names. Raises RebarError if there is none."""
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RebarError(f"target {target!r}: {error}; fix its registration") from error


def entry_of(kind: type) -> Entry | None:
    """Return the first entry of a class of estimators."""
    return next((entry for name, entry in _ENTRIES.items() if target(name) is kind), None)


def make_estimator(name: str, hparams: Any) -> Any:
    """Return an estimator built from `hparams`."""
    build = target(name)
    if not hasattr(build, "from_hparams"):
        return build(hparams)
    arguments = inspect.signature(build.__init__).parameters
    for parameter in entry(name).hparams:
        if parameter not in arguments:
            raise RebarError(
                f"hparams of {name}: {build.__name__} has no argument {parameter!r}; add it to its "
                "__init__"
            )
    valid = ["n_samples", *(n for n in hparams.values() if n in arguments and n != "n_samples")]
    if unused := hparams.of_member.difference(valid):
        raise RebarError(
            f"track: {entry(name).label} does not use {', '.join(sorted(unused))}; remove it, or "
            f"choose from {', '.join(valid)}"
        )
    return build.from_hparams(hparams)
