"""User-defined Python modules that register estimators: --plugins."""

import importlib
import sys
import traceback
from collections.abc import Iterable

from rebar.cli.quiet import quiet_start
from rebar.errors import RebarError
from rebar.runs import environment


def import_plugins(names: Iterable[str]) -> None:
    """Import modules from the current folder, or installed ones, by name.

    Raises:
      RebarError: a module is missing, or its import fails.
    """
    for name in filter(None, names):
        if not all(part.isidentifier() for part in name.split(".")):
            raise RebarError(
                f"--plugins={name}: invalid name of a Python module; use the name of one in the "
                "current folder or installed, without folder and .py"
            )
        environment.check()
        if "" not in sys.path:  # the current folder, if there is one
            sys.path.insert(0, "")
        try:
            with quiet_start():
                importlib.import_module(name)
        except ImportError as error:
            if error.name and not name.startswith(error.name):  # the module exists, and imports it
                raise _failure(name, error) from error
            raise RebarError(
                f"--plugins={name}: {error}; use the name of a Python module in the current folder "
                "or installed, without .py"
            ) from None
        except Exception as error:
            raise _failure(name, error) from error


def _failure(name, error):
    """The error of a module that exists."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = "" if isinstance(error, SyntaxError) else f" ({last.filename}:{last.lineno})"
    return RebarError(f"--plugins={name}: {type(error).__name__}: {error}{place}; fix the module")
