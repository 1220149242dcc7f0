"""What an estimator declares and returns."""

import tensorflow as tf

from rebar import noise
from rebar.core import gradients
from rebar.estimators.base import Estimator, hard_rollout
from rebar.estimators.local_disarm import LocalDisARM
from rebar.estimators.nvil import NVIL
from rebar.estimators.vimco import VIMCO
from rebar.types import Estimate
from tests.conformance.faults.planting import TWO_LAYERS, Fault, biased, fails, replace


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

    def metrics_at(self, model, x, noise, hard):
        return {"elbo_again": tf.reduce_sum(hard.objective)}


def _same_uniforms(true):
    def latents(*arguments):
        drawn = true(*arguments)
        return drawn._replace(uniforms=(drawn.uniforms[0],) * len(drawn.uniforms))

    return latents


DECLARATIONS = [
    Fault(
        "state outside the weights", None, fails(KeepsState, "restored", "continues differently")
    ),
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
