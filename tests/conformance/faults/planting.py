"""A planted fault, and how it is seen."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from rebar import testing
from rebar.testing.problems import dtype_policy


class Fault(NamedTuple):
    """A planted fault.

    Attributes:
      name: what is wrong.
      plant: patches the product; None for a class that has the fault.
      seen: fails with AssertionError if the fault is planted.
    """

    name: str
    plant: Callable[[pytest.MonkeyPatch], None] | None
    seen: Callable[[], None]


def fails(estimator, only: str, wrong: str, **limits) -> Callable[[], None]:
    """The first check of `rebar.testing` to fail does so with `wrong` in its detail.

    A quarter of the draws is enough for these faults.
    """

    def seen():
        planned = testing.plan(testing.subject(estimator, **limits), times=0.25)
        chosen = [check for check in planned if only in check.name]
        if not chosen:
            raise ValueError(f"no check has {only!r} in its name")
        for check in chosen:
            result = testing.run(check)
            if not result.passed and wrong not in result.detail:
                raise ValueError(f"another failure than {wrong!r}: {result}")
            assert result.passed, result

    return seen


def biased(estimator, only: str = "unbiased: unconditional, 1 layer", **limits):
    """The mean over draws is not the exact gradient."""
    return fails(estimator, only, "biased at", **limits)


def replace(owner, name: str, make) -> Callable[[pytest.MonkeyPatch], None]:
    """Replace an attribute by `make` of the true one."""

    def plant(patch):
        patch.setattr(owner, name, make(getattr(owner, name)))

    return plant


def times(factor: float):
    """Make a function whose values are multiplied."""
    return lambda true: lambda *arguments: factor * true(*arguments)


TWO_LAYERS = "unbiased: unconditional, 2 layers"
FEW_ROWS = "few rows"


class Float64:
    """The tests of a module, run in float64."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        def run(*arguments):
            with dtype_policy("float64"):
                return getattr(self._module, name)(*arguments)

        return run


def module_with(module, **changes) -> SimpleNamespace:
    """A module, as another one sees it, with some attributes replaced."""
    return SimpleNamespace(**{**vars(module), **changes})
