"""Score functions and baselines."""

import tensorflow as tf

from rebar.core import bounds, gradients, logit_gradients
from rebar.estimators import leave_one_out, reinforce
from rebar.estimators.base import hard_rollout
from rebar.estimators.nvil import NVIL
from rebar.estimators.rodeo import RODEO
from tests.conformance import double_cv
from tests.conformance.faults.planting import FEW_ROWS, TWO_LAYERS, Fault, biased, fails, replace


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


def mean_of_all(f):
    return tf.repeat(tf.reduce_mean(f, axis=0, keepdims=True), f.shape[0], axis=0)


def _without_linear_terms(true):
    return lambda tape, rollout, signals, variables, linear=None: true(
        tape, rollout, signals, variables
    )


def _own_derivatives(true):
    """For two samples, D_k becomes the derivative at sample k itself."""
    return lambda self, layer, f, b, d: true(self, layer, f, b, tf.reverse(d, [0]))


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
        "a baseline that ascends",
        None,
        fails(Ascends, "efficiency: unconditional", "the variance with trained control variates"),
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
        replace(logit_gradients, "mean_of_others", lambda true: mean_of_all),
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
        "RODEO with the derivative at the same sample",
        replace(RODEO, "_surrogates", _own_derivatives),
        biased("SBNRODEO", "1 layer, trained control variates"),
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
