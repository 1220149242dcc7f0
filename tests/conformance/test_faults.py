"""Every fault of the catalog is caught, and the right form of what exists only here passes."""

import pytest

from rebar import testing
from tests.conformance import double_cv
from tests.conformance.faults import FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_caught(fault, monkeypatch):
    if fault.plant is not None:
        fault.plant(monkeypatch)
    with pytest.raises(AssertionError):
        fault.seen()


@pytest.mark.parametrize(
    "only",
    [
        *("rows: unconditional", "control gradients: unconditional, 1 layer"),
        *("unbiased: unconditional, 1 layer", "efficiency: unconditional, 1 layer"),
    ],
)
def test_double_cv_has_no_fault(only):
    """The problems are those at which its faults are detected."""
    testing.check_estimator(double_cv.DoubleCV, min_samples=2, only=only).raise_failures()


def test_the_catalog_is_large_enough():
    assert len(FAULTS) >= 100
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
