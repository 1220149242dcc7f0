"""The gradient by the logits of each image: exact values, and a model that estimators accept."""

import numpy as np
import pytest

from rebar.analysis import at_logits
from rebar.core import enumeration
from rebar.errors import RebarError
from tests.conformance import categories
from tests.conformance.cases import flat, float64, images, tensor, tiny_model

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("codes", [4, 512])
def test_exact_gradients_are_those_of_the_tape(monkeypatch, codes):
    monkeypatch.setattr(at_logits, "_CODES", codes)
    for prior in ("uniform", "learned"):
        model, x = categories.model(prior), tensor(images(3))
        (table,) = enumeration.elbo_and_gradient(at_logits.AtLogits(model, x), x).gradients
        np.testing.assert_allclose(at_logits.exact_gradient(model, x), table, atol=1e-12)
        truth = enumeration.elbo_and_gradient(model, x).gradients
        ids = [id(v) for v in model.inference_variables]
        of_q = [g for v, g in zip(model.trainable_variables, truth, strict=True) if id(v) in ids]
        np.testing.assert_allclose(
            flat(at_logits.exact_gradient_of_q(model, x)), flat(of_q), atol=1e-12
        )


def test_the_logits_are_those_of_the_encoder():
    model, x = categories.model(), tensor(images(3))
    (logits,) = at_logits.AtLogits(model, x).posterior_logits(x, ())
    np.testing.assert_allclose(logits, model.posterior_logits(x, ())[0], rtol=1e-14)


def test_other_latents_are_refused():
    with pytest.raises(RebarError, match="--by=weights"):
        at_logits.AtLogits(tiny_model(1), tensor(images(3)))
