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
from typing import Any, ClassVar, NamedTuple

from rebar import registry
from rebar.errors import RebarError
from rebar.hparams import checks, grammar
from rebar.hparams.fields import Fields


class Description(NamedTuple):
    """One row of the table of hyperparameters.

    Attributes:
      name: as in `name=value`.
      type: "int", "float", "bool", "str" or "list of str".
      default: the default as it is typed.
      help: one sentence.
      choices: valid values; () if any value in range is valid.
    """

    name: str
    type: str
    default: str
    help: str
    choices: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class HParams(Fields):
    """Hyperparameters of one run.

    Raises:
      RebarError: invalid types, choices, ranges or combinations; lists every problem.
    """

    typed: ClassVar[frozenset[str]] = frozenset()
    """Names set by the strings of `parse`, including those of a preset."""
    notes: ClassVar[tuple[str, ...]] = ()
    """Messages about values that `parse` inferred from others."""

    def __post_init__(self):
        values, problems, bad = {}, [], set()
        for field in dataclasses.fields(self):
            try:
                values[field.name] = grammar.typed(getattr(self, field.name), field.default)
            except (TypeError, OverflowError) as error:
                problems.append(f"{field.name}: {error}")
                bad.add(field.name)
        problems += checks.problems(values, bad)
        _refuse("invalid hyperparameters", problems)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, *strings: str | Mapping[str, Any]) -> "HParams":
        """Apply --hparams strings to the defaults; later ones override earlier ones.

        With track=[...] alone, `follow` becomes the first of them and `n_samples` the smallest
        number that suits them all; `notes` of the result reports these.

        Args:
          *strings: --hparams strings, or mappings of names to values.

        Raises:
          RebarError: malformed clauses, unknown or repeated names, invalid values; lists every
            problem.
        """
        values = {field.name: field.default for field in dataclasses.fields(cls)}
        problems, bad, typed = [], set(), set()
        for string in strings:
            if isinstance(string, Mapping):
                changes, wrong, unreadable = grammar.read(string, values)
            elif isinstance(string, str):
                changes, wrong, unreadable = grammar.parse(string, values)
            else:
                raise RebarError(
                    f"HParams.parse({string!r}): must be a string or a mapping; pass e.g. "
                    '"model=SBNDisARM,n_layer=2"'
                )
            values |= changes
            typed |= set(changes)
            problems += wrong
            bad |= unreadable
        inferred = checks.inferred(values, typed) if bad.isdisjoint(values) else {}
        values |= inferred
        problems += checks.problems(values, bad)
        text = (f'--hparams="{s}"' if isinstance(s, str) else str(dict(s)) for s in strings)
        _refuse(f"cannot use {' '.join(text)}", problems)
        hparams = cls(**values)
        object.__setattr__(hparams, "typed", frozenset(typed))
        notes = [f"{n}={grammar.write(v)}, inferred from track" for n, v in inferred.items()]
        object.__setattr__(hparams, "notes", tuple(notes))
        return hparams

    def replace(self, **changes: Any) -> "HParams":
        """Return a copy with changed values. Raises RebarError for invalid names and values."""
        _refuse("HParams.replace", [_unknown(name) for name in changes if name not in _FIELDS])
        return dataclasses.replace(self, **changes)

    def format(self, all: bool = False) -> str:
        """Return the --hparams string of these values: parse(h.format()) == h.

        Args:
          all: include values that equal the default.
        """
        return ",".join(
            f"{name}={grammar.write(value)}"
            for name, value in self.values().items()
            if all or value != _FIELDS[name].default
        )

    def to_dict(self) -> dict[str, Any]:
        """Return name -> value of every hyperparameter, with lists instead of tuples, for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.values().items()
        }

    def values(self) -> dict[str, Any]:
        """Return name -> value of every hyperparameter."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HParams":
        """Invert to_dict. Raises RebarError for unknown or missing names and invalid values."""
        problems = [_unknown(name) for name in values if name not in _FIELDS]
        problems += [
            f"{name}: missing; add it (the default is {grammar.write(field.default)})"
            for name, field in _FIELDS.items()
            if name not in values
        ]
        _refuse("HParams.from_dict", problems)
        return cls(**values)

    @property
    def entry(self) -> registry.Entry:
        """Registry entry of the model."""
        return registry.entry(self.model)

    def applicable(self) -> dict[str, Any]:
        """Return name -> value, as in `to_dict`, of the hyperparameters that apply to the model."""
        kinds = {None, self.entry.latents}
        others = set() if self.entry.tracks else {"track", "follow"}
        return {
            name: value
            for name, value in self.to_dict().items()
            # legacy2017 distinguishes logs of this package from those of 2017.
            if name == "legacy2017"
            or (_FIELDS[name].metadata["latents"] in kinds and name not in others)
        }

    @property
    def effective_conditional(self) -> str:
        """Network of the conditional tasks, "multilayer" or "2017"; resolves "auto"."""
        if self.conditional != "auto":
            return self.conditional
        return "2017" if self.n_layer == 1 or self.legacy2017 else "multilayer"

    @property
    def effective_coupling(self) -> str:
        """Layers that REBAR couples, "switch" or "all"; resolves "auto"."""
        if self.coupling != "auto":
            return self.coupling
        return "all" if self.legacy2017 else "switch"


_FIELDS = {field.name: field for field in dataclasses.fields(HParams)}


def describe() -> list[Description]:
    """Return one row per hyperparameter, in order."""
    return [
        Description(
            field.name,
            grammar.type_name(field.default),
            grammar.write(field.default),
            field.metadata["help"],
            tuple(field.metadata["choices"]()) if field.metadata["choices"] else (),
        )
        for field in _FIELDS.values()
    ]


def run_name(hparams: HParams, seed: int) -> str:
    """Return a run's folder name, e.g. "SBNDynamicRebar-sbn-2x200-lr0.0003-s0-1f3a9c2b60".

    The hash covers the seed and all values that are not the default, so that a hyperparameter
    added later renames no existing run.
    """
    changed = {n: v for n, v in hparams.values().items() if v != _FIELDS[n].default}
    content = json.dumps({"hparams": changed, "seed": operator.index(seed)}, sort_keys=True)
    # Names registered by users may contain characters that file systems reject.
    model = re.sub(r"[^A-Za-z0-9._]", "_", hparams.model).lstrip(".")[:60]
    shape = f"{hparams.n_layer}x{hparams.n_hidden}"
    if hparams.entry.latents == "categorical":
        shape = f"{hparams.n_categories}x{hparams.n_latents}"
    digest = hashlib.sha256(content.encode()).hexdigest()[:10]
    return f"{model}-{hparams.task}-{shape}-lr{hparams.learning_rate!r}-s{seed}-{digest}"


def run_folder(working_dir: str | os.PathLike, hparams: HParams, seed: int) -> Path:
    """Return the folder of a run."""
    return Path(os.path.expanduser(working_dir)) / run_name(hparams, seed)


def _unknown(name: str) -> str:
    return grammar.unknown(name, _FIELDS)


def _refuse(what: str, problems: list[str]) -> None:
    """Raise a RebarError that lists all problems, if there are any."""
    if len(problems) == 1:
        raise RebarError(f"{what}: {problems[0]}")
    if problems:
        bullets = "".join(f"\n  - {problem}" for problem in problems)
        raise RebarError(f"{what}, {len(problems)} problems:{bullets}")
