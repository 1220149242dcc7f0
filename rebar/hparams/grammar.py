"""Parser and writer of `name=value,name=[value,value]` strings.

    clause = NAME [ "[" INDEX "]" ] "=" ( VALUE | "[" VALUES "]" )        clauses joined by commas

VALUE has no comma and no "["; VALUES are separated by commas or spaces; both except within "(...)".
The type of a value is that of the name's current value: bool, int, float, str, or tuple (a list of
str). An item of `track` may have settings: LABEL "(" clauses ")".
"""

import numbers
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from rebar.errors import did_you_mean

# No adjacent runs of spaces: the regex would backtrack over all combinations of their lengths.
_CLAUSE = re.compile(
    r"""(?P<name>[a-zA-Z][\w.]*) \s* (\[\s*(?P<index>[0-9]{1,9})\s*\]\s*)? =
        (\s*\[(?P<items>[^\]]*)\]\s*
         | (?P<value>(\([^()\[]*\) | \((?![^()\[]*\)) | [^(,\[])*)) (,\s*|\Z)""",
    re.VERBOSE,
)
# Invalid text up to the next comma outside brackets, where parsing resumes.
_MALFORMED = re.compile(r"(?P<text>(\[[^\]]*(\]|\Z)|[^,\[])*)(,\s*|\Z)")
_ITEM = re.compile(r"(?:\([^()]*\)|[^,\s])+")
_CALL = re.compile(r"([^()]*)\(([^()]*)\)")
_BOOLS = {"true": True, "True": True, "false": False, "False": False}


def parse(string: str, current: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Parse one string.

    Args:
      string: clauses; may be empty.
      current: valid name -> current value.

    Returns:
      Name -> new value, and messages about problems.
    """
    values, problems = {}, []
    seen: dict[str, list] = {}
    string = string.strip()
    position = 0
    while position < len(string):
        clause = _CLAUSE.match(string, position)
        if clause is None:
            malformed = _MALFORMED.match(string, position)
            hint = "; paths must not contain , [ ] ( )" if ".npz" in malformed["text"] else ""
            problems.append(
                f"malformed clause {malformed['text']!r}; write name=value or name=[value,value]"
                f"{hint}"
            )
            position = malformed.end()
            continue
        position = clause.end()
        name, index = clause["name"], clause["index"]
        if name not in current:
            problems.append(unknown(name, current))
            continue
        # name[0]=... and name[1]=... are different; name=... conflicts with both.
        index = None if index is None else int(index)
        before = seen.setdefault(name, [])
        repeated = index in before or (bool(before) and None in (index, *before))
        before.append(index)
        try:
            if repeated:
                raise ValueError("set twice in one string; set it once")
            values[name] = _value(clause, name, index, values.get(name, current[name]))
        except ValueError as error:
            problems.append(f"{name}: {error}")
    return values, problems


def clauses(string: str) -> list[tuple[str, str]]:
    """Return the name and the text of the value of each well-formed clause."""
    pairs, position, string = [], 0, string.strip()
    while position < len(string):
        clause = _CLAUSE.match(string, position)
        if clause:
            name, _, value = clause[0].partition("=")
            pairs.append((name.strip(), value.strip().rstrip(",").rstrip()))
        position = (clause or _MALFORMED.match(string, position)).end()
    return pairs


def split(text: str) -> tuple[str, ...]:
    """Return the items of a list: "REBAR(temperature=1,coupling=all),LOO" has two."""
    return tuple(" ".join(item.split()) for item in _ITEM.findall(text))


def call(text: str) -> tuple[str, str]:
    """Return the label and the clauses of an item of `track`: "REBAR(temperature=1)", "REBAR"."""
    match = _CALL.fullmatch(text)
    return (match[1], match[2]) if match else (text, "")


def _value(clause: re.Match, name: str, index: int | None, current: Any) -> Any:
    """Return the new value of `name`. Raises ValueError for an invalid one."""
    items, text = clause["items"], (clause["value"] or "").strip()
    if not isinstance(current, tuple):
        if index is not None or items is not None:
            raise ValueError(f"must be one {type_name(current)}, not a list; write {name}=value")
        return _scalar(text, current)
    if index is None:
        if items is None:
            raise ValueError(f"must be a list, not one value; write {name}=[{text}]")
        return split(items)
    if items is not None:
        raise ValueError(f"an element must not be a list; write {name}[{index}]=value")
    if index >= len(current):
        raise ValueError(f"invalid index [{index}]; use 0 to {len(current) - 1}")
    return (*current[:index], text, *current[index + 1 :])


def _scalar(text: str, current: Any) -> Any:
    """Convert text to the type of `current`. Raises ValueError for invalid text."""
    try:
        if isinstance(current, bool):
            return _BOOLS[text] if text in _BOOLS else bool(int(text))
        return type(current)(text)
    except ValueError:
        allowed = "; write true or false" if isinstance(current, bool) else ""
        raise ValueError(f"{text!r} must be of type {type_name(current)}{allowed}") from None


def typed(value: Any, default: Any) -> Any:
    """Convert a Python value to the type of `default`. Raises TypeError if it would change."""
    if isinstance(default, tuple):
        if isinstance(value, list | tuple):
            return tuple(value)
    elif isinstance(default, bool):
        if isinstance(value, bool):
            return value
    elif isinstance(default, int | float):
        kind = numbers.Real if isinstance(default, float) else numbers.Integral
        if isinstance(value, kind) and not isinstance(value, bool):
            return type(default)(value)
    elif value is default or isinstance(value, str | os.PathLike):
        return value
    raise TypeError(f"must be of type {type_name(default)}")


def write(value: Any) -> str:
    """Format a value as it is typed after "name="; floats keep all digits."""
    if isinstance(value, tuple):
        return f"[{','.join(map(str, value))}]"
    return value if isinstance(value, str) else repr(value)


def type_name(value: Any) -> str:
    """ "int", "float", "bool", "str" or "list"."""
    return "list" if isinstance(value, tuple) else type(value).__name__


def unknown(name: str, valid: Iterable[str]) -> str:
    """Return the message about an unknown name, with the closest valid ones."""
    hint = did_you_mean(name, valid) or f"; choose from {', '.join(valid)}"
    return f"unknown hyperparameter {name!r}{hint}"
