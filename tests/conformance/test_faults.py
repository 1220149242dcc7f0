"""Every fault of the catalog is caught."""

import pytest

from tests.conformance.faults import FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_caught(fault, monkeypatch):
    if fault.plant is not None:
        fault.plant(monkeypatch)
    with pytest.raises(AssertionError):
        fault.seen()


def test_the_catalog_is_large_enough():
    assert len(FAULTS) >= 100
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
