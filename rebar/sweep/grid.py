"""Sets of values in --hparams strings, and the points that they span.

    "model={SBNReinforceLOO;n_samples=2,SBNRelax},n_layer={1,2}"    four points

Braces stand for each of their alternatives in turn, as in a shell. Commas separate alternatives,
except within [...] and (...); a semicolon stands for a comma within an alternative.
"""

import itertools
import math
import re
from collections.abc import Iterable, Sequence

from rebar.errors import RebarError
from rebar.hparams import HParams, grammar

_SET = re.compile(r"(\{[^{}]*\})")
_SEPARATOR = re.compile(r",(?![^\[]*\]|[^(]*\))")
_MOST_POINTS = 100_000


def expand(strings: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all combinations of the sets in some strings; the sets on the right change fastest."""
    return [*_product([["".join(words) for words in _product(_sets(s))] for s in strings])]


def _sets(string: str) -> list[list[str]]:
    """Return the alternatives of the parts of a string; text outside of sets has one."""
    parts = [[part] for part in _SET.split(string)]
    literal = "".join(itertools.chain(*parts[::2]))
    for part in parts[1::2]:
        part[:] = [word.strip().replace(";", ",") for word in _SEPARATOR.split(part[0][1:-1])]
    if re.search(r"[{}]", literal) or not all(map(all, parts[1::2])):
        raise RebarError(
            f"{string!r}: an unmatched brace, a set within a set, or an empty alternative; write "
            "name={value,value}"
        )
    return parts


def _product(choices: Sequence[Sequence[str]]) -> Iterable[tuple[str, ...]]:
    number = math.prod(map(len, choices))
    if number > _MOST_POINTS:
        raise RebarError(f"the sets span {number} points; at most {_MOST_POINTS} are allowed")
    return itertools.product(*choices)


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


def points(strings: Sequence[str], preset: str | None = None) -> dict[HParams, tuple[str, ...]]:
    """Return the checked points of a grid, hyperparameters -> --hparams strings without sets.

    The strings override those of a preset. Raises RebarError with all problems.
    """
    _refuse_split(strings)
    unique: dict[HParams, tuple[str, ...]] = {}
    problems = []
    for expanded in expand(strings):
        try:
            unique.setdefault(HParams.parse(*expanded, preset=preset), expanded)
        except RebarError as error:
            problems.append(str(error))
    if problems:
        raise RebarError("\n".join(dict.fromkeys(problems)))
    return unique


def seeds(words: Sequence[str]) -> list[int]:
    """Return the seeds that were typed. Raises RebarError for invalid and repeated ones."""
    valid = [int(word) for word in words if re.fullmatch(r"\s*[0-9]{1,10}\s*", word)]
    if not words or len(valid) < len(words) or max(valid) >= 2**32 or len({*valid}) < len(valid):
        raise RebarError(
            f"--seeds={','.join(words)}: must be different integers from 0 to 2**32 - 1, e.g. 0,1,2"
        )
    return valid
