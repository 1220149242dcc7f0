"""The one exception for a user's mistake.

Command-line tools catch it, print its message without a traceback and exit with status 2; in
Python it is an ordinary `ValueError`. A message names what was given, what is allowed and what
to type.
"""


class RebarError(ValueError):
    """Something the user gave cannot be used; the message says what and how to mend it."""
