"""REBAR, RELAX and Gumbel-Softmax."""

import tensorflow as tf

from rebar.core import bernoulli, categorical, samplers
from rebar.estimators import logit_products, relaxed_terms
from rebar.estimators.gumbel import GumbelSoftmax
from rebar.estimators.rebar import REBAR
from rebar.estimators.relax import RELAX
from tests.conformance.faults.planting import TWO_LAYERS, Fault, biased, fails, replace, times


class CouplesAllLayers(REBAR):
    """The 2017 coupling of quadratic REBAR, said to be unbiased."""

    verified = ({"coupling": "all"},)

    def setup(self, model, seed=0):
        super().setup(model, seed)
        self.unbiased = True


class ForgetsTheDirectPath(RELAX):
    """d r~/d logits has both paths, d r/d logits none: 1 + rho instead of rho."""

    def free_form_terms(self, x, noise, hard, active):
        values, derivatives = super().free_form_terms(x, noise, hard, active)
        products = relaxed_terms.couplings(hard, noise)
        rho = {k: products[k](tf.ones_like(d[k])) for k, d in derivatives.items()}
        return relaxed_terms.Terms(
            values, {k: {k: d[k] * (1 + rho[k]) / rho[k]} for k, d in derivatives.items()}
        )


def hard_above(true):
    """The continuation of the DisARM code: relaxed at one layer, hard above it."""

    def relaxed(z, temperature, muprop_relaxation, switch_layer, below):
        relaxed = true(z, temperature, muprop_relaxation, switch_layer, below)

        def sample(layer, logits):
            if layer > switch_layer:
                return bernoulli.hard_sample(logits, z[layer])
            return relaxed(layer, logits)

        return sample

    return relaxed


def _without_values_in_dt(true):
    def relaxed_objectives(*arguments, **keywords):
        terms, terms_dt = true(*arguments, **keywords)
        if terms_dt is not None:
            zeros = {k: tf.zeros_like(v) for k, v in terms_dt.values.items()}
            terms_dt = terms_dt._replace(values=zeros)
        return terms, terms_dt

    return relaxed_objectives


def _of_the_sample_alone(true):
    """The noise of the other categories is kept fixed."""

    def coupling(one_hot, gumbels, logits):
        return lambda g: true(one_hot, gumbels, logits)(g * one_hot)

    return coupling


CATEGORICAL = "unbiased: categorical, 1 layer"

RELAXATIONS = [
    Fault("the coupling of 2017 above one layer", None, biased(CouplesAllLayers, TWO_LAYERS)),
    Fault(
        "the coupling derivative with the wrong sign",
        replace(bernoulli, "coupling_derivative", times(-1)),
        biased("SBNRebar", "unbiased: unconditional, 1 layer, large"),
    ),
    Fault(
        "no coupling derivative",
        replace(bernoulli, "coupling_derivative", times(0)),
        biased("SBNRelax"),
    ),
    Fault(
        "the categorical coupling with the wrong sign",
        replace(categorical, "coupling", lambda true: lambda *a: lambda g: -true(*a)(g)),
        biased("CatREBAR", "unbiased: categorical, 1 layer, large"),
    ),
    Fault(
        "the categorical coupling of the sample alone",
        replace(categorical, "coupling", _of_the_sample_alone),
        biased("CatRELAX", CATEGORICAL),
    ),
    Fault(
        "the diagonal of the Jacobian of softmax only",
        replace(categorical, "softmax_product", lambda true: lambda p, g: p * (1 - p) * g),
        biased("CatMuProp", CATEGORICAL),
    ),
    Fault(
        "no gradient of f at fixed samples by q's variables",
        replace(logit_products.Weights, "_with_direct", lambda true: lambda self, g: g),
        biased("CatREBAR", CATEGORICAL),
    ),
    Fault(
        "a hard continuation in RELAX",
        replace(samplers, "relaxed", hard_above),
        biased("SBNRelax", TWO_LAYERS),
    ),
    Fault("no direct path into RELAX's network", None, biased(ForgetsTheDirectPath)),
    Fault(
        "a temperature gradient without the change of f",
        replace(relaxed_terms, "relaxed_objectives", _without_values_in_dt),
        fails("SBNDynamicRebar", "control gradients: unconditional", "control_objective() changes"),
    ),
    Fault(
        "a biased estimator that says it is unbiased",
        replace(GumbelSoftmax, "unbiased", lambda true: True),
        biased("SBNGumbel"),
    ),
]
