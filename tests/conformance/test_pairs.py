"""Antithetic pairs: every way to continue them is unbiased, and wrong chains are caught.

See `monte_carlo` for seed, number of draws, false-fail rate and what can be detected. A DisARM that
does not omit the units whose pair agrees has the right mean: no comparison of means can find
it, but tests/estimators/test_golden_disarm.py does.
"""

import pytest

from rebar.core import bernoulli, logit_gradients, samplers
from rebar.estimators.antithetic import ARM, DisARM
from tests.conformance.cases import FAMILIES, float64, set_up, tiny_model
from tests.conformance.monte_carlo import assert_biased, assert_unbiased

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")

CONTINUATIONS = [
    *(
        (cls, "independent", family, n_layer)
        for cls in (ARM, DisARM)
        for family in FAMILIES
        for n_layer in (2, 3)
    ),
    *(
        (cls, continuation, "unconditional", 4)
        for cls in (ARM, DisARM)
        for continuation in ("shared", "independent")
    ),
]
"""(class, continuation, family, n_layer) in addition to the defaults up to three layers."""


@pytest.mark.parametrize(("cls", "continuation", "family", "n_layer"), CONTINUATIONS)
def test_continuations_are_unbiased(cls, continuation, family, n_layer):
    model = tiny_model(n_layer, family)
    assert_unbiased(set_up(cls(continuation=continuation), model), model)


# Planted faults.


@pytest.mark.parametrize(("name", "cls"), [("arm", ARM), ("disarm", DisARM)])
def test_fault_wrong_sign(name, cls, monkeypatch):
    """1/2 - u for u - 1/2, (-1)^b for (-1)^b~."""
    true = getattr(logit_gradients, name)
    monkeypatch.setattr(logit_gradients, name, lambda *arguments: -true(*arguments))
    model = tiny_model(1)
    assert_biased(set_up(cls(), model), model, where="q_0")


def right(u, layer, i):
    return 1 - u[i] if i == layer else u[i]


def own_lower_layers(u, layer, i):
    """Flipped at the layer and at all under it, which then feed it other samples."""
    return 1 - u[i] if i <= layer else u[i]


def flipped_noise_again(u, layer, i):
    """Continue with 1 - u of the layer where the pair separates."""
    return u[i] if i < layer else 1 - u[layer]


def own_noise_again(u, layer, i):
    """Continue with u of the layer where the pair separates."""
    return 1 - u[i] if i == layer else u[min(i, layer)]


@pytest.mark.parametrize("cls", [ARM, DisARM])
@pytest.mark.parametrize(
    ("uniforms_of", "where"),
    [(own_lower_layers, "q_1"), (flipped_noise_again, "q_0"), (own_noise_again, "q_0")],
)
def test_fault_antithetic_chain(cls, uniforms_of, where, monkeypatch):
    """`uniforms_of(u, layer, i)` are the uniforms of layer i in a chain that parts at `layer`."""
    model = tiny_model(2)
    estimator = set_up(cls(), model)

    def replace_chain(uniforms_of):
        def antithetic(noise, layer, below):
            def sample(i, logits):
                u = uniforms_of(noise.uniforms, layer, i)
                return bernoulli.hard_sample(logits, bernoulli.logistic(u))

            return sample

        monkeypatch.setattr(samplers, "antithetic", antithetic)

    replace_chain(right)
    assert_unbiased(estimator, model)
    replace_chain(uniforms_of)
    assert_biased(estimator, model, where=where)
