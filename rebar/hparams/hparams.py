"""Hyperparameters from the `--hparams` string of the 2017 script.

    --hparams="model=SBNDynamicRebar,learning_rate=0.0003,n_layer=2,task=sbn"

Names, defaults and grammar are those of TensorFlow 1's `tf.contrib.training.HParams`. Unlike there,
choices and ranges are checked and all problems are reported together, before TensorFlow is loaded.
"""

import dataclasses
import hashlib
import json
import operator
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from rebar import registry
from rebar.data.sources import task_of, task_slug
from rebar.errors import RebarError
from rebar.hparams import checks, grammar, layers, presets
from rebar.hparams.fields import OF_PRIOR, Fields, field
from rebar.plugins import with_plugins


@dataclasses.dataclass(frozen=True)
class HParams(Fields):
    """Hyperparameters of one run.

    Attributes:
      custom: (name, value) of the hyperparameters that the estimators in use declare, see
        `rebar.register`; missing ones have their defaults.

    Raises:
      RebarError: invalid types, choices, ranges or combinations; lists every problem.
    """

    custom: tuple[tuple[str, Any], ...] = field((), "Hyperparameters of custom estimators.")
    typed: ClassVar[frozenset[str]] = frozenset()
    """Names set by the strings of `parse`, including those of a preset."""
    of_member: ClassVar[frozenset[str]] = frozenset()
    """Names set by an item of `track`, see `member`."""
    notes: ClassVar[tuple[str, ...]] = ()
    """Messages about values that `parse` inferred from others."""

    def __post_init__(self):
        problems = checks.convert(self) or checks.conflicts(self)
        if not problems:
            custom, problems = checks.custom(self, dict(self.custom))
            object.__setattr__(self, "custom", tuple(custom.items()))
        checks.refuse("invalid hyperparameters", problems)

    @classmethod
    def parse(cls, *strings: str | Mapping[str, Any], preset: str | None = None) -> "HParams":
        """Apply --hparams strings to the defaults; later ones override earlier ones.

        Plug-ins that are installed are imported if there is a problem, such as an unknown name.

        With track=[...] alone, `follow` becomes the first of them and `n_samples` the smallest
        number that suits them all; `notes` of the result reports these.

        Args:
          *strings: --hparams strings, or mappings of names to values.
          preset: name of a preset, whose string comes first.

        Raises:
          RebarError: malformed clauses, unknown or repeated names, or invalid values; lists every
            problem. Combinations of values are checked once all values are valid.
        """
        return with_plugins(lambda: cls._parse(strings, preset))

    @classmethod
    def _parse(cls, strings, preset):
        custom = checks.custom_defaults()
        values = defaults()
        problems, typed = [], set()
        protocol = [] if preset is None else [presets.preset(preset)]
        for string in (*protocol, *strings):
            if isinstance(string, Mapping):
                changes = {name: value for name, value in string.items() if name in values}
                problems += [_unknown(name) for name in string if name not in values]
            elif isinstance(string, str):
                changes, wrong = grammar.parse(string, values)
                problems += wrong
            else:
                raise RebarError(
                    f"HParams.parse({string!r}): must be a string or a mapping; pass e.g. "
                    '"model=SBNDisARM,n_layer=2"'
                )
            values |= changes
            typed |= set(changes)
        custom = {name: values.pop(name) for name in custom}
        draft = Fields(**values)
        problems += checks.convert(draft)
        inferred = {} if problems else checks.inferred(draft, typed)
        draft = dataclasses.replace(draft, **inferred)
        problems = problems or [*checks.conflicts(draft), *checks.custom(draft, custom)[1]]
        texts = [f'--hparams="{s}"' if isinstance(s, str) else str(dict(s)) for s in strings]
        note = ""
        if preset is not None:
            texts = [f"--preset={preset}", *texts]
            note = f"\n--preset={preset} sets {protocol[0]}"
        checks.refuse(f"cannot use {' '.join(texts)}", problems, note)
        hparams = cls(**vars(draft), custom=tuple(custom.items()))
        object.__setattr__(hparams, "typed", frozenset(typed))
        notes = [f"{n}={grammar.write(v)}, inferred from track" for n, v in inferred.items()]
        object.__setattr__(hparams, "notes", tuple(notes))
        return hparams

    def replace(self, **changes: Any) -> "HParams":
        """Return a copy with changed values. Raises RebarError for invalid names and values."""
        return self.from_dict(self.values() | changes)

    def member(self, text: str) -> "HParams":
        """Return the hyperparameters of an item of `track`, such as "LOO" or "LOO(n_samples=4)".

        Raises RebarError for invalid settings.
        """
        changes, problems = checks.member(self, text)
        checks.refuse(text, problems)
        declared = registry.custom_hparams(changes["model"])
        values = {n: v for n, v in self.values().items() if n in _FIELDS or n in declared}
        hparams = self.from_dict(values | changes)
        names = frozenset(changes) - {"model", "track", "follow"}
        object.__setattr__(hparams, "of_member", names)
        return hparams

    def format(self, all: bool = False) -> str:
        """Return the --hparams string of these values: parse(h.format()) == h.

        Args:
          all: include values that equal the default.
        """
        default = defaults()
        return ",".join(
            f"{name}={grammar.write(value)}"
            for name, value in self.values().items()
            if all or value != default[name]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return name -> value of every hyperparameter, with lists instead of tuples, for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.values().items()
        }

    def values(self) -> dict[str, Any]:
        """Return name -> value of every hyperparameter."""
        return {name: getattr(self, name) for name in _FIELDS} | dict(self.custom)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HParams":
        """Invert to_dict; missing names have their defaults.

        Raises:
          RebarError: unknown names, or invalid values.
        """
        valid = defaults()
        checks.refuse(
            "invalid hyperparameters", [_unknown(name) for name in values if name not in valid]
        )
        static = {name: value for name, value in values.items() if name in _FIELDS}
        custom = {name: value for name, value in values.items() if name not in _FIELDS}
        return cls(**static, custom=tuple(custom.items()))

    def applicable(self) -> dict[str, Any]:
        """Return name -> value, as in `to_dict`, of the hyperparameters that apply to the model."""
        others = set() if self.entry.tracks else {"track", "follow"}
        return {
            name: value
            for name, value in self.to_dict().items()
            # legacy2017 distinguishes logs of this package from those of 2017.
            if name == "legacy2017"
            or name not in _FIELDS
            or (self.applies(name) and name not in others)
        }

    @property
    def plugins(self) -> list[str]:
        """Modules of plug-ins that registered the estimators, the model and the data in use."""
        names = [self.model, *checks.tracked(self).values()]
        entries: list[Any] = [*map(registry.entry, names), task_of(self.task)]
        if self.custom_network:
            entries.append(registry.model(self.network))
        return sorted({entry.module for entry in entries} - {""})

    @property
    def effective_conditional(self) -> str:
        """Network of the conditional tasks, "multilayer" or "2017"; resolves "auto"."""
        if self.conditional != "auto":
            return self.conditional
        return "2017" if len(self.layers) == 1 or self.legacy2017 else "multilayer"

    @property
    def architecture(self) -> str:
        """Description of the stochastic layers and of the networks between them, for titles."""
        if self.custom_network:
            return f"network {self.network}"
        text = layers.describe(self.layers)
        pixels = ", Gaussian pixels" * (self.likelihood == "gaussian")
        if not self.belief_network:
            return text + pixels
        count = len(self.layers)
        kind = f"nonlinear ({self.activation})" if self.nonlinear else "linear"
        return f"{count} stochastic layer{'s' * (count != 1)} of {text}, {kind}{pixels}"

    @property
    def sizes(self) -> str:
        """Sizes of the layers, for file names: "2x200", "8x4" or "200-8x4"; or a custom model."""
        if self.custom_network:
            return self.network[:60]
        if self.latents:
            return "-".join(self.latents)[:60]
        if self.belief_network:
            return f"{self.n_layer}x{self.n_hidden}"
        return f"{self.n_categories}x{self.n_latents}"

    @property
    def effective_coupling(self) -> str:
        """Layers that REBAR couples, "switch" or "all"; resolves "auto"."""
        if self.coupling != "auto":
            return self.coupling
        return "all" if self.legacy2017 else "switch"


_FIELDS = {field.name: field for field in dataclasses.fields(Fields)}


def defaults() -> dict[str, Any]:
    """Return name -> default of every hyperparameter, including those of custom estimators."""
    return {name: field.default for name, field in _FIELDS.items()} | checks.custom_defaults()


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return saved hyperparameters, with the defaults of those that an older version lacks.

    The default of `prior` was "uniform", for categorical VAEs only, before `likelihood` existed.
    Settings of the optimizer of a uniform prior were accepted, without effect.
    """
    values = dict(values)
    if "likelihood" not in values and values.get("prior") == "uniform":
        del values["prior"]
    values = HParams().to_dict() | values
    default = defaults()
    optimizer = {name: default[name] for name in OF_PRIOR}
    if optimizer.items() <= values.items():
        return values
    draft = Fields(**{name: values[name] for name in _FIELDS})
    try:
        return values | optimizer if draft.fixed_prior else values
    except RebarError:  # an estimator of a plug-in that is not imported
        return values


def run_name(hparams: HParams, seed: int) -> str:
    """Return a run's folder name, e.g. "SBNDynamicRebar-sbn-2x200-lr0.0003-s0-1f3a9c2b60".

    The hash covers the seed and all values that are not the default, so that a hyperparameter
    added later renames no existing run.
    """
    default = defaults()
    changed = {n: v for n, v in hparams.values().items() if v != default[n]}
    content = json.dumps({"hparams": changed, "seed": operator.index(seed)}, sort_keys=True)
    # Names registered by users may contain characters that file systems reject.
    model = re.sub(r"[^A-Za-z0-9._]", "_", hparams.model).lstrip(".")[:60]
    digest = hashlib.sha256(content.encode()).hexdigest()[:10]
    task = task_slug(hparams.task)
    return f"{model}-{task}-{hparams.sizes}-lr{hparams.learning_rate!r}-s{seed}-{digest}"


def run_folder(working_dir: str | os.PathLike, hparams: HParams, seed: int) -> Path:
    """Return the folder of a run."""
    return Path(os.path.expanduser(working_dir)) / run_name(hparams, seed)


def _unknown(name: str) -> str:
    return grammar.unknown(name, defaults())
