"""Plug-ins: modules that register estimators, models and tasks when they are imported.

A plug-in is named by --plugins, by the records of a run, or by an entry point of the group
rebar.plugins. Those of records and entry points are imported only if a name is unknown. Modules are
named by identifiers and must be installed or in the current folder; nothing else is executed.
"""

import functools
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any, TypeVar

from rebar.errors import RebarError
from rebar.runs import environment
from rebar.runs.quiet import quiet_start

GROUP = "rebar.plugins"

T = TypeVar("T")


def import_plugins(names: Iterable[str]) -> None:
    """Import the modules of --plugins.

    Raises:
      RebarError: a module is missing, or its import fails.
    """
    for name in filter(None, names):
        _import(name, f"--plugins={name}")


def with_plugins(build: Callable[[], T], modules: Any = (), run: str = "") -> T:
    """Return build(). If it raises RebarError, import plug-ins that are not imported, and retry.

    Args:
      build: function that looks names up.
      modules: modules in the records of a run.
      run: name of the run, for messages.

    Raises:
      RebarError: of build(), or a module cannot be imported.
    """
    try:
        return build()
    except RebarError:
        names = modules if isinstance(modules, list | tuple) else ()
        recorded = [n for n in names if isinstance(n, str) and n not in sys.modules]
        for name in recorded:
            _import(name, f"{run}: was trained with the plug-in {name}")
        if not discover() and not recorded:
            raise
    return build()


def discover() -> bool:
    """Import the modules of installed plug-ins; return whether there is a new one.

    Raises:
      RebarError: an import fails.
    """
    names = {name: package for name, package in _installed().items() if name not in sys.modules}
    for name, package in names.items():
        _import(name, f"plug-in {name} of the installed package {package}")
    return bool(names)


@functools.cache
def _installed() -> dict[str, str]:
    """Return module -> package of all entry points."""
    points = metadata.entry_points(group=GROUP)
    return {point.module: point.dist.name if point.dist else "" for point in points}


def _import(name, what):
    """Import a module; errors begin with `what`."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise RebarError(
            f"{what}: invalid name of a Python module; use the name of an installed module or of "
            "one in the current folder, without folder and .py"
        )
    environment.check()
    if "" not in sys.path:  # the current folder, if there is one
        sys.path.insert(0, "")
    try:
        with quiet_start():
            importlib.import_module(name)
    except ImportError as error:
        if error.name and not name.startswith(error.name):  # the module exists, and imports it
            raise _failure(what, error) from error
        raise RebarError(
            f"{what}: {error}; install the module or change to its folder, and write its name "
            "without .py"
        ) from None
    except Exception as error:
        raise _failure(what, error) from error


def _failure(what, error):
    """Return the error of a module that exists."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = "" if isinstance(error, SyntaxError) else f" ({last.filename}:{last.lineno})"
    return RebarError(f"{what}: {type(error).__name__}: {error}{place}; fix the module")


def calling_module() -> str:
    """Return the module that calls the caller; "" for a program and this package."""
    name = sys._getframe(2).f_globals.get("__name__", "__main__")
    return "" if name.partition(".")[0] in ("__main__", "rebar") else name


def call(function: Callable[..., Any], arguments: Mapping[str, Any], what: str) -> Any:
    """Call a function with the subset of arguments that it has, by name.

    Raises:
      RebarError: the function has further arguments without a default.
    """
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if others := [p.name for p in named if p.default is p.empty and p.name not in arguments]:
        raise RebarError(
            f"{what} needs {', '.join(others)}; its arguments can be {', '.join(arguments)}"
        )
    return function(**{p.name: arguments[p.name] for p in named if p.name in arguments})
