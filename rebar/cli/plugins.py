"""Python modules of the user that register estimators: --plugins."""

import importlib
import os
import sys
from collections.abc import Iterable

from rebar.cli.quiet import quiet_start
from rebar.errors import RebarError


def import_plugins(names: Iterable[str]) -> None:
    """Import modules from the current folder, or installed ones, by name.

    Raises:
      RebarError: one cannot be imported; says why.
    """
    sys.path.insert(0, os.getcwd())
    for name in filter(None, names):
        try:
            with quiet_start():
                importlib.import_module(name)
        except ImportError as error:
            raise RebarError(
                f"--plugins={name} cannot be imported: {error}. Give the name of a Python module "
                "in the current folder or installed, without .py"
            ) from None
