"""The exception for invalid input.

Commands print its message without a traceback and exit with status 2; in Python it is a
`ValueError`. Messages have the form `<input>: <what is wrong>; <imperative fix>`.
"""

import difflib
from collections.abc import Iterable


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
