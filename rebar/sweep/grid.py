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
from collections.abc import Iterable, Sequence

from rebar.errors import RebarError
from rebar.hparams import HParams, grammar

_SET = re.compile(r"(\{[^{}]*\})")
_SEPARATOR = re.compile(r",(?![^\[]*\])")
_MOST_POINTS = 100_000


def expand(strings: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all combinations of the sets in some strings; the sets on the right change fastest."""
    return [*_product([["".join(words) for words in _product(_sets(s))] for s in strings])]


def _sets(string: str) -> list[list[str]]:
    """Return alternatives of the parts of a string; text outside of sets has one."""
    parts = [[part] for part in _SET.split(string)]
    if re.search(r"[{}]", "".join(part for (part,) in parts[::2])):
        raise RebarError(
            f"{string!r}: an unmatched brace, or a set within a set; write name={{value,value}}"
        )
    for i in range(1, len(parts), 2):
        (part,) = parts[i]
        parts[i] = [word.strip().replace(";", ",") for word in _SEPARATOR.split(part[1:-1])]
        if not all(parts[i]):
            raise RebarError(f"{part} in {string!r}: an empty alternative; write {{A,B}}")
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


def points(strings: Sequence[str], base: Sequence[str] = ()) -> dict[HParams, tuple[str, ...]]:
    """Return the checked points of a grid, hyperparameters -> --hparams strings without sets.

    `base` are strings that come first (a preset).

    Raises RebarError for the problems of all points, and for points that are equal.
    """
    _refuse_split(strings)
    unique: dict[HParams, tuple[str, ...]] = {}
    problems = []
    for expanded in expand(strings):
        try:
            hparams = HParams.parse(*base, *expanded)
        except RebarError as error:
            problems.append(str(error))
            continue
        if hparams in unique:
            texts = [" ".join(f'"{s}"' for s in x) for x in (expanded, unique[hparams])]
            problems.append(
                f"{texts[0]} and {texts[1]} are the same hyperparameters; remove a repeated value, "
                "or the later string that overrides a set"
            )
        unique.setdefault(hparams, expanded)
    problems = list(dict.fromkeys(problems))
    if len(problems) > 1:
        bullets = "".join(f"\n- {problem}" for problem in problems)
        problems = [f"this sweep cannot be started, {len(problems)} problems:{bullets}"]
    if problems:
        raise RebarError(problems[0])
    return unique


def seeds(words: Sequence[str]) -> list[int]:
    """Return the seeds that were typed. Raises RebarError for invalid and repeated ones."""
    valid = [int(word) for word in words if re.fullmatch(r"\s*[0-9]{1,10}\s*", word)]
    if not words or len(valid) < len(words) or max(valid) >= 2**32 or len({*valid}) < len(valid):
        raise RebarError(
            f"--seeds={','.join(words)}: must be different integers from 0 to 2**32 - 1, e.g. 0,1,2"
        )
    return valid
