"""NVIL: the score-function estimator with a learned, input-dependent baseline (2017: SBNNVIL).

    g = - mean_n [ (f(b) - c(x)) d log q(b | x) + d log p(x, b) ],    b ~ q(. | x)

Unbiased: c does not see b, and E_q[d log q] = 0. One evaluation of f a row. Learns c by least
squares on the learning signal, mean (f - c)^2.

Source: Mnih & Gregor 2014 (arXiv 1402.0030), equation 5 and section 2.3, without their variance
normalisation and per-layer signals, as in the 2017 code.
"""

import tensorflow as tf

from rebar.core import gradients
from rebar.estimators.base import Estimator, InputBaseline, hard_rollout
from rebar.types import Estimate


class NVIL(Estimator):
    """See the module's docstring. Metrics: none."""

    unbiased = True
    generator_at_hard = True

    def setup(self, model, seed=0):
        """Create the baseline."""
        self.baseline = InputBaseline(model.input_mean, seed, name="nvil_baseline")

    def estimate(self, model, x, noise):
        """Estimate the gradient; x [B, D]."""
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
        f = tf.stop_gradient(hard.objective)
        with tf.GradientTape() as control_tape:
            signal = f - self.baseline(x, n_samples=noise.n_samples)
            squared_signal = tf.reduce_mean(tf.square(signal))
        gradient = gradients.score_gradient(tape, hard, [signal], model.trainable_variables)
        control = control_tape.gradient(squared_signal, self.trainable_variables)
        return Estimate(gradient, control, hard.objective, {})
