"""The one exception for a user's mistake.

Command-line tools catch it, print its message without a traceback and exit with status 2; in
Python it is an ordinary `ValueError`. A message names what was given, what is allowed and what
to type.
"""

import difflib
from collections.abc import Iterable


class RebarError(ValueError):
    """Invalid input; the message says what was given, what is wrong and how to fix it."""

    ag_pass_through = True
    """Tells AutoGraph to raise it as it is in traced code instead of as a StagingError."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """ "; did you mean A or B?" with the valid words closest to an invalid one, or ""."""
    by_lower_case = {valid.lower(): valid for valid in known}
    near = difflib.get_close_matches(str(word).lower(), by_lower_case, n=3)
    return f"; did you mean {' or '.join(by_lower_case[n] for n in near)}?" if near else ""
