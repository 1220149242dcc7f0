"""The sum over states in parts against the tape through all of them at once."""

import numpy as np
import pytest
import tensorflow as tf

from rebar.core import enumeration
from rebar.errors import RebarError
from tests.conformance import categories
from tests.conformance.cases import FAMILIES, flat, float64, images, tensor, tiny_model

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")


def models():
    yield categories.model()
    for family in FAMILIES:
        yield tiny_model(2, family)


@pytest.mark.parametrize("rows", [1, 10, 10_000])
def test_parts_add_up(monkeypatch, rows):
    monkeypatch.setattr(enumeration, "ROWS", rows)
    x = tensor(images(3))
    for model in models():
        elbo, gradients = tf.function(enumeration.elbo_and_gradient)(model, x)
        truth = enumeration.bound_and_gradient(model, x, 1)
        np.testing.assert_allclose(elbo, truth.value, rtol=1e-12)
        np.testing.assert_allclose(flat(gradients), flat(truth.gradients), atol=1e-12)


def test_states():
    assert enumeration.count(tiny_model(3)) == 2**6
    model = categories.model()
    (codes,) = enumeration.states_of(model)
    assert codes.shape == (9, 2, 3)
    assert enumeration.count(model) == 9
    assert len({tuple(np.argmax(code, axis=-1)) for code in codes}) == 9
    np.testing.assert_array_equal(np.sum(codes, axis=-1), 1)


def test_too_many_codes_are_refused():
    assert enumeration.all_states([(4, 8)])[0].shape == (enumeration.MAX_STATES, 4, 8)
    with pytest.raises(RebarError, match=r"5 variables of 8 categories.*more than 4096"):
        enumeration.all_states([(5, 8)])


def test_states_of_layers_of_both_kinds():
    units, codes = enumeration.all_states([(2,), (2, 3)])
    assert (units.shape, codes.shape) == ((36, 2), (36, 2, 3))
    states = np.concatenate([units, np.reshape(codes, [36, 6])], axis=1)
    assert len(np.unique(states, axis=0)) == 36
    np.testing.assert_array_equal(np.sum(codes, axis=-1), 1)
