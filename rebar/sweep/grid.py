"""Sets of values in --hparams strings, and the points that they span.

    "task=digits,model={SBNDisARM,SBNRelax},learning_rate={0.001,0.0003}"       four points
    "task=digits,model={SBNReinforceLOO;n_samples=2,SBNRelax}"                  two points

Braces are replaced by each of their alternatives in turn, as in a shell. Commas separate the
alternatives, except within [...]; a semicolon stands for a comma within one, so that settings which
belong together can change together.
"""

import itertools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from rebar.errors import RebarError
from rebar.hparams import HParams, grammar

_SET = re.compile(r"(\{[^{}]*\})")
_SEPARATOR = re.compile(r",(?![^\[]*\])")
_MOST_POINTS = 100_000


class Point(NamedTuple):
    """One set of hyperparameters.

    Attributes:
      strings: as --hparams takes them, without sets.
      hparams: their values, on top of the preset if there is one.
    """

    strings: tuple[str, ...]
    hparams: HParams


def expand(strings: Sequence[str]) -> list[tuple[str, ...]]:
    """All combinations of the sets in some strings; the sets on the right change fastest.

    Raises:
      RebarError: an unmatched brace, a set within a set, an empty alternative, or too many
        combinations; names every problem.
    """
    problems: list[str] = []
    pieces = [_SET.split(string) for string in strings]
    sets = []
    for string, parts in zip(strings, pieces, strict=True):
        for part in parts[1::2]:
            words = [word.strip().replace(";", ",") for word in _SEPARATOR.split(part[1:-1])]
            if not all(words):
                problems.append(f"{part} in {string!r}: an empty alternative; write {{A,B}}")
            sets.append(words)
        if re.search(r"[{}]", "".join(parts[::2])):
            problems.append(
                f"{string!r}: an unmatched brace, or a set within a set; write name={{value,value}}"
            )
    number = math.prod(map(len, sets))
    if number > _MOST_POINTS:
        problems.append(f"the sets span {number} points; at most {_MOST_POINTS} are allowed")
    _refuse(problems)
    expanded = []
    for choice in map(iter, itertools.product(*sets)):
        expanded.append(
            tuple(
                "".join(next(choice) if i % 2 else part for i, part in enumerate(parts))
                for parts in pieces
            )
        )
    return expanded


def _refuse_split(strings: Sequence[str]) -> None:
    """Raise RebarError where a shell has split one string at its braces into several."""
    settings: dict[str, str] = {}
    for string in strings:
        for name, value in grammar.clauses(_SET.sub("{}", string)):
            if "{" not in value and settings.setdefault(name, value) != value:
                raise RebarError(
                    f"--hparams: {name} is set to both {settings[name]} and {value}; put quotes "
                    f'around it, as in --hparams="{name}={{{settings[name]},{value}}}"'
                )


def points(strings: Sequence[str], base: Sequence[str] = ()) -> list[Point]:
    """The checked points of a grid.

    Args:
      strings: with sets; later ones override earlier ones, as in `HParams.parse`.
      base: strings without sets that come first (a preset).

    Raises:
      RebarError: names every problem of every point, and the points that are equal.
    """
    _refuse_split(strings)
    found: dict[HParams, Point] = {}
    problems = []
    for expanded in expand(strings):
        try:
            hparams = HParams.parse(*base, *expanded)
        except RebarError as error:
            problems.append(str(error))
            continue
        point = found.setdefault(hparams, Point(expanded, hparams))
        if point.strings is not expanded:
            texts = [" ".join(f'"{s}"' for s in x) for x in (expanded, point.strings)]
            problems.append(
                f"{texts[0]} and {texts[1]} are the same hyperparameters; remove a repeated value, "
                "or the later string that overrides a set"
            )
    _refuse(list(dict.fromkeys(problems)))
    return list(found.values())


def seeds(words: Sequence[str]) -> list[int]:
    """Seeds as typed. Raises RebarError for invalid and repeated ones."""
    wrong = [w for w in words if not re.fullmatch(r"\s*\d+\s*", w, re.A) or int(w) >= 2**32]
    if wrong or not words:
        given = ",".join(words)
        raise RebarError(f"--seeds={given}: must be integers from 0 to 2**32 - 1, e.g. 0,1,2")
    found = list(map(int, words))
    if len(set(found)) < len(found):
        raise RebarError(f"--seeds={','.join(words)}: a seed occurs twice; give each once")
    return found


def _refuse(problems: list[str]) -> None:
    if len(problems) == 1:
        raise RebarError(problems[0])
    if problems:
        bullets = "".join(f"\n- {problem}" for problem in problems)
        raise RebarError(f"this sweep cannot be started, {len(problems)} problems:{bullets}")
