"""A planted fault, and how it is seen."""

from collections.abc import Callable
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
    """A check of `rebar.testing` whose detail contains `wrong` where it fails."""

    def seen():
        report = testing.check_estimator(estimator, only=only, **limits)
        failures = report.failures
        assert all(wrong in failure.detail for failure in failures), report
        assert not failures, report.summary()

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
