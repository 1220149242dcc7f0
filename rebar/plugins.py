"""Functions of plug-ins: called with the arguments that they have."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rebar.errors import RebarError


def call(function: Callable[..., Any], arguments: Mapping[str, Any], what: str) -> Any:
    """Call a function with those of the arguments that it has, by name.

    Raises:
      RebarError: it has other arguments without a default.
    """
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if others := [p.name for p in named if p.default is p.empty and p.name not in arguments]:
        raise RebarError(
            f"{what} needs {', '.join(others)}; its arguments can be {', '.join(arguments)}"
        )
    return function(**{p.name: arguments[p.name] for p in named if p.name in arguments})
