"""The exception for invalid input.

Commands print its message without a traceback and exit with status 2; in Python it is a
`ValueError`. Messages have the form `<input>: <what is wrong>; <imperative fix>`.
"""

import difflib
import numbers
from collections.abc import Iterable
from typing import TypeGuard


class RebarError(ValueError):
    """Invalid input."""

    ag_pass_through = True
    """Make AutoGraph raise it unchanged in traced code instead of as a StagingError."""


def did_you_mean(word: object, valid: Iterable[str]) -> str:
    """Return "; did you mean A or B?" with the valid words closest to an invalid one, or ""."""
    by_lower_case = {name.lower(): name for name in valid}
    near = difflib.get_close_matches(str(word).lower(), by_lower_case, n=3)
    return f"; did you mean {' or '.join(by_lower_case[n] for n in near)}?" if near else ""


def unknown(kind: str, name: object, valid: Iterable[str]) -> RebarError:
    """Return the error for a name that is not among the valid ones, with the closest of them."""
    near = did_you_mean(name, valid)
    return RebarError(f"unknown {kind} {name!r}; choose from {', '.join(valid)}{near}")


def integer(
    value: object, name: str, least: int = 1, most: int | None = None, example: int | None = None
) -> int:
    """Return an integer of Python or NumPy as an int.

    Args:
      value: the input.
      name: its name.
      least: smallest valid value.
      most: largest one, or None.
      example: a value for the message; by default `least`.

    Raises:
      RebarError: the value is not an integer or outside the limits.
    """
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        number = int(value)
        if least <= number and (most is None or number <= most):
            return number
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    use = least if example is None else example
    raise RebarError(f"{name}={value!r}: must be an integer {limits}; use e.g. {name}={use}")


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a real number of Python or NumPy; booleans are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
