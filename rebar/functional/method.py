"""Properties of a method of `rebar.estimate_gradient`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from rebar.errors import RebarError, did_you_mean


class Method(NamedTuple):
    """A method and its properties.

    Attributes:
      compute: problem -> gradient shaped like the logits, value [B], number of evaluations of f.
      unbiased: for d E f / d logits.
      differentiates: f must have a derivative with respect to its samples.
      evaluations: evaluations of f, as text.
      defaults: options and their defaults.
    """

    compute: Callable
    unbiased: bool
    differentiates: bool
    evaluations: str
    defaults: dict[str, Any]


def choose(methods: dict[str, Method], name: str, options: dict[str, Any]) -> Method:
    """Return the method of that name; RebarError for an unknown name or option."""
    if not isinstance(name, str) or name not in methods:
        hint = did_you_mean(name, methods) if isinstance(name, str) else ""
        raise RebarError(f"unknown method {name!r}{hint}; available: {', '.join(methods)}")
    for option in options:
        if option not in methods[name].defaults:
            takes = ", ".join(methods[name].defaults) or "no options"
            takers = ", ".join(n for n, m in methods.items() if option in m.defaults)
            raise RebarError(
                f"{option}: unknown option of {name}; available: {takes}"
                + (f"; {option} is an option of: {takers}" if takers else "")
            )
    return methods[name]
