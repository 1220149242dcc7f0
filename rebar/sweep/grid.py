"""Sets of values in --hparams strings, and the points that they span.

    "task=digits,model={SBNDisARM,SBNRelax},learning_rate={0.001,0.0003}"       four points
    "task=digits,model={SBNReinforceLOO;n_samples=2,SBNRelax}"                  two points

Braces are replaced by each of their alternatives in turn, as a shell does it. Commas separate the
alternatives, except within [...]; a semicolon stands for a comma within one, so that settings which
belong together can change together.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from rebar.errors import RebarError
from rebar.hparams import HParams

_ALTERNATIVE = re.compile(r"(?:\[[^\]]*(?:\]|\Z)|[^,\[])*")
_MOST_POINTS = 100_000


class Point(NamedTuple):
    """One set of hyperparameters.

    Attributes:
      strings: as --hparams takes them, without sets.
      hparams: what they say, on top of the preset if there is one.
    """

    strings: tuple[str, ...]
    hparams: HParams


def expand(strings: Sequence[str]) -> list[tuple[str, ...]]:
    """All combinations of the sets in some strings; the sets on the right change fastest.

    Raises:
      RebarError: a brace without its partner, a set within a set, an empty alternative, or more
        combinations than anyone can want; names every problem.
    """
    problems: list[str] = []
    parsed = [_parse(string, problems) for string in strings]
    _refuse(problems)
    sets = [part for parts in parsed for part in parts if isinstance(part, list)]
    number = 1
    for alternatives in sets:
        number *= len(alternatives)
    if number > _MOST_POINTS:
        raise RebarError(f"the sets span {number} points; at most {_MOST_POINTS} are allowed")
    expanded = []
    for choice in itertools.product(*sets):
        chosen = iter(choice)
        expanded.append(
            tuple(
                "".join(next(chosen) if isinstance(part, list) else part for part in parts)
                for parts in parsed
            )
        )
    return expanded


def _refuse_split(strings: Sequence[str]) -> None:
    """Raise RebarError where a shell has split one string at its braces into several."""
    settings: dict[str, str] = {}
    for string in strings:
        for name, value in re.findall(r"(?:^|,)\s*(\w+)\s*=([^,{]*)(?=,|$)", string):
            if settings.setdefault(name, value) != value:
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
    found, problems, seen = [], [], {}
    for expanded in expand(strings):
        try:
            hparams = HParams.parse(*base, *expanded)
        except RebarError as error:
            problems.append(str(error))
            continue
        text = " ".join(f'"{string}"' for string in expanded)
        if hparams in seen:
            problems.append(
                f"{text} and {seen[hparams]} are the same hyperparameters; a set names a value "
                "twice, or a later string overrides a set"
            )
        seen.setdefault(hparams, text)
        found.append(Point(expanded, hparams))
    _refuse(list(dict.fromkeys(problems)))
    return found


def varied(all_hparams: Sequence[HParams]) -> list[str]:
    """Names of the hyperparameters that are not the same in all points, in their usual order."""
    rows = [hparams.to_dict() for hparams in all_hparams]
    return [name for name in rows[0] if any(row[name] != rows[0][name] for row in rows)]


def seeds(words: Sequence[str]) -> list[int]:
    """Seeds as typed. Raises RebarError for what is none, and for one given twice."""
    found, problems = [], []
    for word in words:
        if not re.fullmatch(r"\d+", word.strip()) or int(word) >= 2**32:
            problems.append(f"--seeds: {word!r} is no seed; give numbers from 0 to 2**32 - 1")
        elif int(word) in found:
            problems.append(f"--seeds: {int(word)} is given twice")
        else:
            found.append(int(word))
    if not words:
        problems.append("--seeds is empty; give at least one, e.g. --seeds=0,1,2")
    _refuse(problems)
    return found


def _parse(string: str, problems: list[str]) -> list[Any]:
    """Text and sets (lists of alternatives) in turn; adds what is wrong to `problems`."""
    parts: list[Any] = []
    for number, piece in enumerate(re.split(r"(\{[^{}]*\})", string)):
        if number % 2 == 0:
            parts.append(piece)
            continue
        alternatives = [word.strip() for word in _split(piece[1:-1])]
        if not all(alternatives):
            problems.append(f"{piece} in {string!r} has an empty alternative; write {{A,B}}")
        parts.append([word.replace(";", ",") for word in alternatives])
    if re.search(r"[{}]", "".join(part for part in parts if isinstance(part, str))):
        problems.append(
            f"{string!r} has a brace without its partner, or a set within a set; "
            "write name={value,value}"
        )
    return parts


def _split(text: str) -> list[str]:
    """Split at commas outside [...]."""
    words, position = [], 0
    while True:
        word = _ALTERNATIVE.match(text, position)
        words.append(word[0])
        position = word.end() + 1
        if position > len(text):
            return words


def _refuse(problems: list[str]) -> None:
    if len(problems) == 1:
        raise RebarError(problems[0])
    if problems:
        bullets = "".join(f"\n- {problem}" for problem in problems)
        raise RebarError(f"this sweep cannot be started, {len(problems)} problems:{bullets}")
