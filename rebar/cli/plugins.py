"""Python modules of the user that register estimators: --plugins."""

import importlib
import os
import sys
import traceback
from collections.abc import Iterable

from rebar.cli.quiet import quiet_start
from rebar.errors import RebarError
from rebar.runs import environment


def import_plugins(names: Iterable[str]) -> None:
    """Import modules from the current folder, or installed ones, by name.

    Raises:
      RebarError: one is not found, or fails; says why.
    """
    for name in filter(None, names):
        if not all(part.isidentifier() for part in name.split(".")):
            raise RebarError(
                f"--plugins={name} is not the name of a Python module; type that of one in the "
                "current folder or installed, without a folder and without .py"
            )
        environment.check()
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            with quiet_start():
                importlib.import_module(name)
        except ImportError as error:
            raise RebarError(
                f"--plugins={name} cannot be imported: {error}. Give the name of a Python module "
                "in the current folder or installed, without .py"
            ) from None
        except Exception as error:
            # Whatever a module of the user's may do wrong; where, if not in its syntax, counts.
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = "" if isinstance(error, SyntaxError) else f" ({where.filename}:{where.lineno})"
            raise RebarError(
                f"--plugins={name} fails when imported: {type(error).__name__}: {error}{place}"
            ) from error
