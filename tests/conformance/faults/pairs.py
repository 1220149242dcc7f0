"""Antithetic pairs, and the multi-sample bound."""

import tensorflow as tf

from rebar.core import bernoulli, bound_gradients, bounds, logit_gradients, samplers
from rebar.estimators import antithetic, arms
from rebar.estimators.base import hard_rollout
from rebar.estimators.ovis import OVIS
from rebar.estimators.rws import RWS
from tests.conformance import test_exact
from tests.conformance.faults.planting import TWO_LAYERS, Fault, Float64, biased, replace, times
from tests.estimators import test_golden_frontier


def chain(uniforms_of):
    """Antithetic chains with `uniforms_of(u, layer, i)` in layer i, separated at `layer`."""

    def make(true):
        def antithetic(noise, layer, below):
            def sample(i, logits):
                u = uniforms_of(noise.uniforms, layer, i)
                return bernoulli.hard_sample(logits, bernoulli.logistic(u))

            return sample

        return antithetic

    return make


def _without_log_q(true):
    def at_fixed_samples(*arguments):
        fixed = true(*arguments)
        return fixed._replace(log_q=[tf.zeros_like(c) for c in fixed.log_q])

    return at_fixed_samples


def _gamma_1(true):
    """OVIS with gamma = 1: log q at fixed samples is left out."""
    return lambda self, f, *rest: true(self, f, *rest) + tf.nn.softmax(f, axis=0)


def _says_unbiased(true):
    def init(self, *arguments, **keywords):
        true(self, *arguments, **keywords)
        self.unbiased = True

    return init


def _main_chains(true):
    """The fresh samples are those of the estimate."""

    def fresh(self, model, x, noise):
        objective = hard_rollout(model, x, noise).objective
        return bounds.split_samples(tf.stop_gradient(objective), noise.n_samples)

    return fresh


OF_BOUND = "unbiased: unconditional, 1 layer, multi_sample=True"

PAIRS = [
    Fault(
        "RWS with the sign of the bound for q",
        replace(RWS, "_signal", lambda true: lambda self, f, *rest: 0 * f),
        lambda: test_golden_frontier.test_bound(RWS(dtype="float64"), "rws_wake_phi", 2),
    ),
    Fault("OVIS with gamma = 1", replace(OVIS, "_signal", _gamma_1), biased("SBNOVIS")),
    Fault(
        "Monte Carlo OVIS whose fresh samples are the main ones",
        replace(OVIS, "_fresh", _main_chains),
        biased("SBNOVIS", "unbiased: multilayer, 1 layer, ovis_samples=2"),
    ),
    Fault(
        "OVIS with gamma = 1 that is said to be unbiased",
        replace(OVIS, "__init__", _says_unbiased),
        biased("SBNOVIS", "unbiased: 2017, 1 layer, ovis_gamma=1.0"),
    ),
    *(
        Fault(
            f"the wrong sign of {name}",
            replace(logit_gradients, kernel, times(-1)),
            biased(name),
        )
        for name, kernel in (("SBNARM", "arm"), ("SBNDisARM", "disarm"))
    ),
    Fault(
        "ARMS without the correction for correlated samples",
        replace(
            logit_gradients, "arms_correction", lambda true: lambda logits, n: tf.ones_like(logits)
        ),
        biased("SBNARMS"),
    ),
    Fault(
        "ARMS with samples whose distribution is another",
        replace(bernoulli, "antithetic_samples", lambda true: lambda u, *rest: true(u * u, *rest)),
        biased("SBNARMS"),
    ),
    Fault(
        "ARMS whose sum over the samples of the bound is a mean, as published",
        replace(arms, "_signals", lambda true: lambda f, d, n: true(f, d, n) / n),
        biased("SBNARMS", OF_BOUND),
    ),
    Fault(
        "ARMS without the part of log q in f of the bound, as published",
        replace(arms, "_signals", lambda true: lambda f, d, n: true(f, 0 * d, n)),
        biased("SBNARMS", OF_BOUND),
    ),
    Fault(
        "an antithetic chain with other lower layers",
        replace(samplers, "antithetic", chain(lambda u, n, i: 1 - u[i] if i <= n else u[i])),
        biased("SBNDisARM", TWO_LAYERS),
    ),
    Fault(
        "an antithetic chain that continues with the flipped noise",
        replace(samplers, "antithetic", chain(lambda u, n, i: u[i] if i < n else 1 - u[n])),
        biased("SBNDisARM", TWO_LAYERS),
    ),
    Fault(
        "an antithetic chain that continues with the noise of the pair",
        replace(
            samplers, "antithetic", chain(lambda u, n, i: 1 - u[i] if i == n else u[min(i, n)])
        ),
        biased("SBNARM", TWO_LAYERS),
    ),
    Fault(
        "the value of the main chain instead of the antithetic one",
        replace(
            antithetic,
            "antithetic_objective",
            lambda true: (
                lambda model, x, noise, hard, layer: (
                    tf.stop_gradient(hard.objective) / 2,
                    true(model, x, noise, hard, layer)[1],
                )
            ),
        ),
        biased("SBNDisARM"),
    ),
    *(
        Fault(
            f"the explicit part of q dropped in {name}",
            replace(bound_gradients, "at_fixed_samples", _without_log_q),
            biased(name, only),
        )
        for name, only in (
            ("SBNVIMCO", "unbiased: unconditional, 1 layer"),
            ("SBNLocalDisARM", "unbiased: unconditional, 1 layer"),
            ("SBNNVIL", "unbiased: multilayer, 1 layer, multi_sample=True"),
        )
    ),
    Fault(
        "the replacement of another chain",
        replace(
            logit_gradients,
            "bound_with_one_replaced",
            lambda true: lambda f, other: true(f, tf.roll(other, 1, axis=0)),
        ),
        biased("SBNLocalDisARM"),
    ),
    Fault(
        "the members of a pair swapped in the signal",
        replace(
            logit_gradients,
            "bound_with_one_replaced",
            lambda true: lambda f, other: true(other, f),
        ),
        biased("SBNLocalDisARM"),
    ),
    Fault(
        "the bound of a sum instead of a mean",
        replace(
            bounds,
            "multi_sample",
            lambda true: lambda f: true(f) + tf.math.log(tf.cast(f.shape[0], f.dtype)),
        ),
        lambda: Float64(test_exact).test_the_bound_equals_numpy("unconditional"),
    ),
]
