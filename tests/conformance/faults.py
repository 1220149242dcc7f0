"""Catalog of planted faults. Each must be caught by a property, not by recorded numbers.

A fault is a small patch and what must fail with it: a check of `rebar.testing` for a name or class,
or a property test elsewhere. That these pass without the fault is tested where they belong; for
classes that only exist here, the class without the fault is checked by `test_faults.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import tensorflow as tf

from rebar import noise, testing
from rebar.core import bernoulli, bound_gradients, bounds, gradients, logit_gradients, samplers
from rebar.estimators import antithetic, leave_one_out, reinforce, relaxed_terms
from rebar.estimators.base import Estimator, hard_rollout
from rebar.estimators.gumbel import GumbelSoftmax
from rebar.estimators.local_disarm import LocalDisARM
from rebar.estimators.nvil import NVIL
from rebar.estimators.rebar import REBAR
from rebar.estimators.relax import RELAX
from rebar.estimators.vimco import VIMCO
from rebar.types import Estimate
from tests.conformance import double_cv


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


TWO_LAYERS = "unbiased: unconditional, 2 layers"
FEW_ROWS = "few rows"


# Score functions and baselines.


class SeesSample(NVIL):
    """A baseline that depends on the sample."""

    verified = ({},)

    def _signal(self, x, f):
        return super()._signal(x, f) - self._first_unit

    def estimate(self, model, x, noise):
        self._first_unit = hard_rollout(model, x, noise).samples[0][:, 0]
        return super().estimate(model, x, noise)


class WrongTarget(NVIL):
    """A baseline that is trained to twice the learning signal."""

    verified = ({},)

    def estimate(self, model, x, noise):
        estimate = super().estimate(model, x, noise)
        with tf.GradientTape() as tape:
            baseline = self.baseline(x, n_samples=noise.n_samples)
            loss = tf.reduce_mean(tf.square(2 * estimate.objective - baseline))
        return estimate._replace(control_gradients=tape.gradient(loss, self.trainable_variables))


class Ascends(NVIL):
    """A baseline that maximizes the variance."""

    verified = ({},)

    def estimate(self, model, x, noise):
        estimate = super().estimate(model, x, noise)
        return estimate._replace(control_gradients=[-g for g in estimate.control_gradients])

    def control_objective(self, model, x, noise):
        return -super().control_objective(model, x, noise)


def _minus_mean_of_all(f, n_samples):
    f = bounds.split_samples(f, n_samples)
    return tf.reshape(f - tf.reduce_mean(f, axis=0), [-1])


def _mean_of_all(f):
    return tf.repeat(tf.reduce_mean(f, axis=0, keepdims=True), f.shape[0], axis=0)


def _without_linear_terms(true):
    return lambda tape, rollout, signals, variables, linear=None: true(
        tape, rollout, signals, variables
    )


def _reversed_signals(true):
    def reversed_signals(tape, rollout, signals, variables, *linear):
        return true(tape, rollout, signals[::-1], variables, *linear)

    return reversed_signals


BASELINES = [
    Fault("a baseline that sees the sample", None, biased(SeesSample)),
    Fault(
        "a baseline trained on another target",
        None,
        fails(WrongTarget, "control gradients: unconditional", "control_objective() changes"),
    ),
    Fault(
        "a leave-one-out mean that counts the sample",
        replace(leave_one_out, "learning_signal", lambda true: _minus_mean_of_all),
        biased("SBNReinforceLOO"),
    ),
    Fault(
        "centering that counts the row",
        replace(reinforce, "center", lambda true: lambda f: f - tf.reduce_mean(f)),
        biased("SBN", FEW_ROWS),
    ),
    Fault(
        "a baseline of VIMCO that counts the chain",
        replace(logit_gradients, "mean_of_others", lambda true: _mean_of_all),
        biased("SBNVIMCO"),
    ),
    Fault(
        "no expected linear term",
        replace(gradients, "score_gradient", _without_linear_terms),
        biased("SBNMuProp"),
    ),
    Fault(
        "log q of another layer",
        replace(gradients, "score_gradient", _reversed_signals),
        biased("SBNMuProp", TWO_LAYERS),
    ),
    Fault(
        "Double CV with the derivative at the same sample",
        None,
        biased(
            double_cv.OwnDerivative,
            "1 layer, trained control variates",
            min_samples=2,
        ),
    ),
    Fault(
        "Double CV with a scale fitted to its batch",
        None,
        fails(double_cv.OwnBatch, "rows: multilayer", "another example", min_samples=2),
    ),
    Fault(
        "Double CV with a scale fitted to its batch, declared",
        None,
        biased(double_cv.OwnBatchDeclared, FEW_ROWS, min_samples=2),
    ),
]


# Relaxations.


class CouplesAllLayers(REBAR):
    """The 2017 coupling of quadratic REBAR, said to be unbiased."""

    verified = ({"coupling": "all"},)

    def setup(self, model, seed=0):
        super().setup(model, seed)
        self.unbiased = True


class ForgetsTheDirectPath(RELAX):
    """d r~/d logits has both paths, d r/d logits none: 1 + rho in the place of rho."""

    def free_form_terms(self, x, noise, hard):
        values, derivatives = super().free_form_terms(x, noise, hard)
        rho = relaxed_terms.couplings(hard, noise)
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


def _times(factor):
    return lambda true: lambda *arguments: factor * true(*arguments)


def _without_values_in_dt(true):
    def relaxed_objectives(*arguments, **keywords):
        terms, terms_dt = true(*arguments, **keywords)
        if terms_dt is not None:
            zeros = {k: tf.zeros_like(v) for k, v in terms_dt.values.items()}
            terms_dt = terms_dt._replace(values=zeros)
        return terms, terms_dt

    return relaxed_objectives


RELAXATIONS = [
    Fault("the coupling of 2017 above one layer", None, biased(CouplesAllLayers, TWO_LAYERS)),
    Fault(
        "the coupling derivative with the wrong sign",
        replace(bernoulli, "coupling_derivative", _times(-1)),
        biased("SBNRebar", "unbiased: unconditional, 1 layer, large"),
    ),
    Fault(
        "no coupling derivative",
        replace(bernoulli, "coupling_derivative", _times(0)),
        biased("SBNRelax"),
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
        "a baseline that ascends",
        None,
        fails(Ascends, "efficiency: unconditional", "the variance with trained control variates"),
    ),
    Fault(
        "a biased estimator that says it is unbiased",
        replace(GumbelSoftmax, "unbiased", lambda true: True),
        biased("SBNGumbel"),
    ),
]


# Antithetic pairs, and the multi-sample bound.


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


PAIRS = [
    *(
        Fault(
            f"the wrong sign of {name}",
            replace(logit_gradients, kernel, _times(-1)),
            biased(name),
        )
        for name, kernel in (("SBNARM", "arm"), ("SBNDisARM", "disarm"))
    ),
    Fault(
        "an antithetic chain with other lower layers",
        replace(samplers, "antithetic", chain(lambda u, n, i: 1 - u[i] if i <= n else u[i])),
        biased("SBNDisARM", TWO_LAYERS),
    ),
    Fault(
        "an antithetic chain that goes on with the flipped noise",
        replace(samplers, "antithetic", chain(lambda u, n, i: u[i] if i < n else 1 - u[n])),
        biased("SBNDisARM", TWO_LAYERS),
    ),
    Fault(
        "an antithetic chain that goes on with the noise of the pair",
        replace(
            samplers, "antithetic", chain(lambda u, n, i: 1 - u[i] if i == n else u[min(i, n)])
        ),
        biased("SBNARM", TWO_LAYERS),
    ),
    Fault(
        "the value of the main chain in the place of the antithetic one",
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
        "the bound of a sum in the place of a mean",
        replace(
            bounds,
            "multi_sample",
            lambda true: lambda f: true(f) + tf.math.log(tf.cast(f.shape[0], f.dtype)),
        ),
        lambda: _exact().test_the_bound_equals_numpy("unconditional"),
    ),
]


def _exact():
    from tests.conformance import test_exact

    return _Float64(test_exact)


class _Float64:
    """The tests of a module that run in float64."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        def run(*arguments):
            from rebar.testing.problems import dtype_policy

            with dtype_policy("float64"):
                return getattr(self._module, name)(*arguments)

        return run


# What an estimator declares and returns.


class KeepsState(NVIL):
    """A moving average outside the weights, which no checkpoint has."""

    verified = ({},)

    def setup(self, model, seed=0):
        super().setup(model, seed)
        self._average = [tf.Variable(0.0, trainable=False)]

    def _signal(self, x, f):
        signal = super()._signal(x, f) - tf.cast(self._average[0], f.dtype)
        self._average[0].assign(0.9 * self._average[0] + 0.1)
        return signal


class Halves(NVIL):
    """float32 in between."""

    verified = ({},)

    def estimate(self, model, x, noise):
        estimate = super().estimate(model, x, noise)
        return estimate._replace(gradients=[tf.cast(g, tf.float32) for g in estimate.gradients])


class Overflows(NVIL):
    """A score by the probability instead of its logit."""

    verified = ({},)

    def estimate(self, model, x, noise):
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
            p = tf.sigmoid(hard.logits[0])
            score = tf.reduce_sum(tf.math.log(p / (1 - p)) * hard.samples[0], axis=1)
            loss = -tf.reduce_mean(tf.stop_gradient(hard.objective) * score + hard.objective)
        g = gradients.gradient_or_zero(tape, loss, model.trainable_variables)
        return super().estimate(model, x, noise)._replace(gradients=g)


class KnowsTheMode(NVIL):
    """Another result in graphs."""

    verified = ({},)

    def estimate(self, model, x, noise):
        estimate = super().estimate(model, x, noise)
        factor = 1.0 if tf.executing_eagerly() else 1.01
        return estimate._replace(gradients=[factor * g for g in estimate.gradients])


class SumsRows(Estimator):
    """A gradient of the sum over examples."""

    def estimate(self, model, x, noise):
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
        signal = len(x) * hard.objective
        g = gradients.score_gradient(tape, hard, [signal], model.trainable_variables)
        return Estimate(g, [], hard.objective, {})


class SaysHard(LocalDisARM):
    """The gradient of p is that of weighted samples."""

    verified = ({},)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator_at_hard = True


class OtherMetrics(NVIL):
    """A metric that has another value at evaluation."""

    verified = ({},)

    def estimate(self, model, x, noise):
        estimate = super().estimate(model, x, noise)
        return estimate._replace(metrics={"elbo_again": tf.reduce_mean(estimate.objective)})

    def metrics(self, model, x, noise, hard):
        return {"elbo_again": tf.reduce_sum(hard.objective)}


def _same_uniforms(true):
    def latents(*arguments):
        drawn = true(*arguments)
        return drawn._replace(uniforms=(drawn.uniforms[0],) * len(drawn.uniforms))

    return latents


DECLARATIONS = [
    Fault("state outside the weights", None, fails(KeepsState, "restored", "goes on differently")),
    Fault("float32 gradients of a float64 model", None, fails(Halves, "structure", "of type")),
    Fault("a score that overflows", None, fails(Overflows, "saturated", "not finite")),
    Fault("another result in graphs", None, fails(KnowsTheMode, "compiled", "eager mode")),
    Fault("a sum over rows", None, biased(SumsRows)),
    Fault("another metric at evaluation", None, fails(OtherMetrics, "structure", "differs")),
    Fault(
        "evaluations that are not counted",
        replace(VIMCO, "evaluations", lambda true: lambda self, n_layer, n_samples=1: 1),
        fails("SBNVIMCO", "evaluations", "rollouts per example"),
    ),
    Fault(
        "p said to follow the hard samples",
        None,
        fails(SaysHard, "generator", "generator_at_hard = True", samples=2),
    ),
    Fault(
        "noise that layers share",
        replace(noise, "latents", _same_uniforms),
        biased("SBNReinforceLOO", TWO_LAYERS),
    ),
]

FAULTS = [*BASELINES, *RELAXATIONS, *PAIRS, *DECLARATIONS]
