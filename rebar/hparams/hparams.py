"""Hyperparameters: the `--hparams` string of the original, checked as a whole before it is used.

    --hparams="model=SBNDynamicRebar,learning_rate=0.0003,n_layer=2,task=sbn"

Names, defaults and grammar (rebar/hparams/grammar.py) are those of the 2017 script, whose parser
was TensorFlow 1's `tf.contrib.training.HParams`. Unlike the original, nothing is applied before
everything is checked, all problems are reported together, choices and ranges are checked, and
spaces around a clause are ignored.

This module does not import TensorFlow: a mistyped string fails at once.
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
      default: the default as it would be typed.
      help: one sentence.
      choices: the allowed values, () where any value in range will do.
    """

    name: str
    type: str
    default: str
    help: str
    choices: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class HParams(Fields):
    """Settings of one run. Every instance is valid: building one checks types, choices, ranges.

    Raises:
      RebarError: when built from values that cannot be used; names every problem.
    """

    typed: ClassVar[frozenset[str]] = frozenset()
    """Names that the strings of `parse` set, a preset's included."""
    notes: ClassVar[tuple[str, ...]] = ()
    """What `parse` inferred from other values, in words."""

    def __post_init__(self):
        values, problems, bad = {}, [], set()
        for field in dataclasses.fields(self):
            try:
                values[field.name] = grammar.typed(getattr(self, field.name), field.default)
            except (TypeError, OverflowError) as error:
                problems.append(f"{field.name}: {error}")
                bad.add(field.name)
        problems += checks.problems(_FIELDS, values, bad)
        _refuse("these hyperparameters cannot be used", problems)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, *strings: str | Mapping[str, Any]) -> "HParams":
        """Defaults changed by --hparams strings, of which later ones override earlier ones.

        With track=[...] alone, `follow` becomes the first of them and `n_samples` the smallest
        number that suits them all; `notes` of the result has these in words.

        Args:
          *strings: each as in the module's docstring, or a mapping of names to values; "" changes
            nothing.

        Raises:
          RebarError: names every problem: malformed clauses, unknown names (with the nearest
            known ones), names given twice in one string, values of the wrong type, a list for a
            scalar and the reverse, values out of range.
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
                    f"HParams.parse({string!r}): must be a string or a mapping; type e.g. "
                    'HParams.parse("model=SBNDisARM,n_layer=2")'
                )
            values |= changes
            typed |= set(changes)
            problems += wrong
            bad |= unreadable
        inferred = checks.inferred(values, typed) if bad.isdisjoint(values) else {}
        values |= inferred
        problems += checks.problems(_FIELDS, values, bad)
        given = " ".join(
            f'--hparams="{string}"' if isinstance(string, str) else str(dict(string))
            for string in strings
        )
        _refuse(f"cannot use {given}", problems)
        hparams = cls(**values)
        object.__setattr__(hparams, "typed", frozenset(typed))
        notes = [f"{n}={grammar.write(v)}, inferred from track" for n, v in inferred.items()]
        object.__setattr__(hparams, "notes", tuple(notes))
        return hparams

    def replace(self, **changes: Any) -> "HParams":
        """A copy with some values changed. Raises RebarError for unknown names and bad values."""
        _refuse("cannot replace", [_unknown(name) for name in changes if name not in _FIELDS])
        return dataclasses.replace(self, **changes)

    def format(self, all: bool = False) -> str:
        """The --hparams string of these values: parse(h.format()) == h.

        Args:
          all: write every value, not only those that differ from the default.
        """
        return ",".join(
            f"{name}={grammar.write(value)}"
            for name, value in self.values().items()
            if all or value != _FIELDS[name].default
        )

    def to_dict(self) -> dict[str, Any]:
        """Name -> value of every hyperparameter, ready for JSON (lists, not tuples)."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.values().items()
        }

    def values(self) -> dict[str, Any]:
        """Name -> value of every hyperparameter."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HParams":
        """The inverse of to_dict.

        Raises:
          RebarError: a name is unknown or missing, or a value cannot be used.
        """
        problems = [_unknown(name) for name in values if name not in _FIELDS]
        problems += [
            f"{name} is missing (its default is {grammar.write(field.default)})"
            for name, field in _FIELDS.items()
            if name not in values
        ]
        _refuse("cannot read these hyperparameters", problems)
        return cls(**values)

    @property
    def entry(self) -> registry.Entry:
        """The registry's entry of the model."""
        return registry.entry(self.model)

    def applicable(self) -> dict[str, Any]:
        """Name -> value of the hyperparameters that apply to the model, as `to_dict`."""
        kinds = {None, self.entry.latents}
        others = set() if self.entry.tracks else {"track", "follow"}
        return {
            name: value
            for name, value in self.to_dict().items()
            # legacy2017 tells this project's logs from those of 2017.
            if name == "legacy2017"
            or (_FIELDS[name].metadata["latents"] in kinds and name not in others)
        }

    @property
    def effective_conditional(self) -> str:
        """Network of the conditional tasks: "multilayer" or "2017"; "auto" resolved."""
        if self.conditional != "auto":
            return self.conditional
        return "2017" if self.n_layer == 1 or self.legacy2017 else "multilayer"

    @property
    def effective_coupling(self) -> str:
        """Layers that REBAR couples: "switch" or "all"; "auto" resolved."""
        if self.coupling != "auto":
            return self.coupling
        return "all" if self.legacy2017 else "switch"


_FIELDS = {field.name: field for field in dataclasses.fields(HParams)}


def describe() -> list[Description]:
    """One row for every hyperparameter, in order: for --help and the README's table."""
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
    """Folder name of a run, e.g. "SBNDynamicRebar-sbn-2x200-lr0.0003-s0-1f3a9c2b60".

    The readable part tells the usual runs apart; the hash at the end covers the seed and all
    values that are not the default, so that a hyperparameter added later renames no old run.
    """
    changed = {n: v for n, v in hparams.values().items() if v != _FIELDS[n].default}
    content = json.dumps({"hparams": changed, "seed": operator.index(seed)}, sort_keys=True)
    # Registered names are the user's: keep what any file system takes, at a harmless length.
    model = re.sub(r"[^A-Za-z0-9._]", "_", hparams.model).lstrip(".")[:60]
    shape = f"{hparams.n_layer}x{hparams.n_hidden}"
    if hparams.entry.latents == "categorical":
        shape = f"{hparams.n_categories}x{hparams.n_latents}"
    digest = hashlib.sha256(content.encode()).hexdigest()[:10]
    return f"{model}-{hparams.task}-{shape}-lr{hparams.learning_rate!r}-s{seed}-{digest}"


def run_folder(working_dir: str | os.PathLike, hparams: HParams, seed: int) -> Path:
    """Folder of a run."""
    return Path(working_dir).expanduser() / run_name(hparams, seed)


def _unknown(name: str) -> str:
    return grammar.unknown(name, _FIELDS)


def _refuse(what: str, problems: list[str]) -> None:
    """Raise one RebarError that names what failed and every problem, if there is any."""
    if len(problems) == 1:
        raise RebarError(f"{what}: {problems[0]}")
    if problems:
        bullets = "".join(f"\n  - {problem}" for problem in problems)
        raise RebarError(f"{what}, {len(problems)} problems:{bullets}")
