"""The one exception for a user's mistake.

Command-line tools catch it, print its message without a traceback and exit with status 2; in
Python it is an ordinary `ValueError`. A message names what was given, what is allowed and what
to type.
"""


class RebarError(ValueError):
    """Invalid input; the message says what was given, what is wrong and how to fix it."""

    ag_pass_through = True
    """Tells AutoGraph to raise it as it is in traced code instead of as a StagingError."""
