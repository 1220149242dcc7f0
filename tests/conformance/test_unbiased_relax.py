"""Faults of RELAX that bias it, seen by enumeration; see `monte_carlo` for draws and rates.

That RELAX itself is unbiased is tested with all registered estimators, in `test_unbiased.py`.
"""

import pytest

from rebar.core import bernoulli, samplers
from rebar.estimators.relax import RELAX
from tests.conformance import monte_carlo
from tests.conformance.cases import float64, set_up, tiny_model
from tests.conformance.test_literal_relax import ForgetsTheDirectPath, hard_above

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")


def check(n_layer, cls=RELAX):
    model = tiny_model(n_layer)
    return monte_carlo.check(set_up(cls(), model), model)


@pytest.mark.parametrize("n_layer", [2, 3])
def test_fault_hard_continuation(n_layer, monkeypatch):
    """All layers but the last are wrong, as in the DisARM code."""
    monkeypatch.setattr(samplers, "relaxed", hard_above)
    result = check(n_layer)
    assert result.biased
    assert "q_" in result.worst
    assert f"q_{n_layer - 1}" not in result.worst


@pytest.mark.parametrize("factor", [-1, 0], ids=["wrong sign", "dropped"])
def test_fault_coupling_derivative(factor, monkeypatch):
    true = bernoulli.coupling_derivative
    monkeypatch.setattr(bernoulli, "coupling_derivative", lambda b, u, a: factor * true(b, u, a))
    result = check(1)
    assert result.biased
    assert "q_0" in result.worst


@pytest.mark.parametrize("n_layer", [1, 2])
def test_fault_no_direct_path_into_the_network(n_layer):
    result = check(n_layer, ForgetsTheDirectPath)
    assert result.biased
    assert "q_" in result.worst
