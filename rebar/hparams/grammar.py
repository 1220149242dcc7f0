"""Parser and writer of `name=value,name=[value,value]` strings.

    clause = NAME [ "[" INDEX "]" ] "=" ( VALUE | "[" VALUES "]" )        clauses joined by commas

VALUE has no comma and no "["; VALUES are separated by commas or spaces. The type of a value is
that of the present value of the name: bool, int, float, str, or tuple (a list of str).
"""

import numbers
import re
from collections.abc import Iterable, Mapping
from typing import Any

from rebar.errors import did_you_mean

# No two runs of spaces stand side by side: their lengths would be tried in all combinations.
_CLAUSE = re.compile(
    r"""(?P<name>[a-zA-Z][\w.]*) \s* (\[\s*(?P<index>[0-9]{1,9})\s*\]\s*)? =
        (\s*\[(?P<items>[^\]]*)\]\s* | (?P<value>[^,\[]*)) (,\s*|\Z)""",
    re.VERBOSE,
)
# What cannot be read, up to the next comma outside brackets, where reading goes on.
_MALFORMED = re.compile(r"(?P<text>(\[[^\]]*(\]|\Z)|[^,\[])*)(,\s*|\Z)")
_BOOLS = {"true": True, "True": True, "false": False, "False": False}


def parse(string: str, current: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], set[str]]:
    """Read one string against the present values, which are left alone.

    Args:
      string: the clauses; "" gives nothing.
      current: name -> present value of every known name.

    Returns:
      The values that the string gives by name, all its problems in words, and the names whose
      values could not be read.
    """
    values, problems, bad = {}, [], set()
    seen: dict[str, list] = {}
    string = string.strip()
    position = 0
    while position < len(string):
        clause = _CLAUSE.match(string, position)
        if clause is None:
            rest = _MALFORMED.match(string, position)
            problems.append(
                f"malformed clause {rest['text']!r}; write name=value or name=[value,value]"
            )
            position = rest.end()
            continue
        position = clause.end()
        name, index = clause["name"], clause["index"]
        if name not in current:
            problems.append(unknown(name, current))
            continue
        # name[0]=... beside name[1]=... sets different things; name=... sets everything.
        index = None if index is None else int(index)
        before = seen.setdefault(name, [])
        repeated = index in before or (bool(before) and None in (index, *before))
        before.append(index)
        try:
            if repeated:
                raise ValueError("given twice in one string; give it once")
            values[name] = _value(clause, name, index, values.get(name, current[name]))
        except ValueError as error:
            problems.append(f"{name}: {error}")
            bad.add(name)
    return values, problems, bad


def clauses(string: str) -> list[tuple[str, str]]:
    """Name and text of the value of each well-formed clause."""
    found, position, string = [], 0, string.strip()
    while position < len(string):
        clause = _CLAUSE.match(string, position)
        if clause:
            name, _, value = clause[0].partition("=")
            found.append((name.strip(), value.strip().rstrip(",").rstrip()))
        position = (clause or _MALFORMED.match(string, position)).end()
    return found


def read(given: Mapping[str, Any], current: Mapping[str, Any]) -> tuple[dict, list, set]:
    """As `parse`, from a mapping of names to Python values."""
    values, problems, bad = {}, [], set()
    for name, value in given.items():
        if name not in current:
            problems.append(unknown(str(name), current))
            continue
        try:
            values[name] = typed(value, current[name])
        except (TypeError, OverflowError) as error:
            problems.append(f"{name}: {error}")
            bad.add(name)
    return values, problems, bad


def _value(clause: re.Match, name: str, index: int | None, present: Any) -> Any:
    """The new value of `name`. Raises ValueError with what is wrong."""
    items, text = clause["items"], (clause["value"] or "").strip()
    if not isinstance(present, tuple):
        if index is not None or items is not None:
            raise ValueError(f"one {type_name(present)}, not a list; write {name}=value")
        return _scalar(text, present)
    if index is None:
        if items is None:
            raise ValueError(f"a list, not one value; write {name}=[{text}]")
        return tuple(item for item in re.split(r"[,\s]+", items) if item)
    if items is not None:
        raise ValueError(f"one element of a list cannot be a list; write {name}[{index}]=value")
    if index >= len(present):
        raise ValueError(f"no element [{index}]; it has {len(present)}, counted from 0")
    return (*present[:index], text, *present[index + 1 :])


def _scalar(text: str, present: Any) -> Any:
    """`text` as the type of `present`. Raises ValueError naming both."""
    try:
        if isinstance(present, bool):
            return _BOOLS[text] if text in _BOOLS else bool(int(text))
        return type(present)(text)
    except ValueError:
        allowed = "; write true or false" if isinstance(present, bool) else ""
        raise ValueError(f"{text!r} is not of type {type_name(present)}{allowed}") from None


def typed(value: Any, default: Any) -> Any:
    """A Python value as the type of `default`. Raises TypeError where that would change it."""
    if isinstance(default, tuple):
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(default, (bool, str)):
        if isinstance(value, type(default)):
            return value
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        if isinstance(default, float):
            return float(value)
        if isinstance(value, numbers.Integral):
            return int(value)
    raise TypeError(f"{value!r} is not of type {type_name(default)}")


def write(value: Any) -> str:
    """A value as it is typed after "name="; floats by repr, so that nothing is lost."""
    if isinstance(value, tuple):
        return f"[{','.join(value)}]"
    return value if isinstance(value, str) else repr(value)


def type_name(value: Any) -> str:
    """ "int", "float", "bool", "str" or "list of str"."""
    return "list of str" if isinstance(value, tuple) else type(value).__name__


def unknown(name: str, known: Iterable[str]) -> str:
    """The message for a name that is not known, with the nearest ones that are."""
    hint = did_you_mean(name, known) or f"; known: {', '.join(known)}"
    return f"unknown hyperparameter {name!r}{hint}"
