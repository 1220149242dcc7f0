"""NVIL: the score-function estimator with a learned, input-dependent baseline (2017: SBNNVIL).

    g = - mean_n [ (f(b) - c(x)) d log q(b | x) + d log p(x, b) ],    b ~ q(. | x)

Unbiased for the ELBO: c does not depend on b, and E_q[d log q] = 0. One evaluation of f per row.
c is learned by least squares on the learning signal, mean (f - c)^2.

`multi_sample`: for the bound L = log 1/K sum_k exp f_k of an example's K samples,

    g = - mean_B [ sum_k (L - c(x)) d log q(b_k | x)  +  d L at fixed samples ]

is unbiased for the same reason; c minimizes mean (L - c)^2.

Source: Mnih & Gregor 2014 (arXiv 1402.0030), equation 5 and section 2.3, without their variance
normalization and per-layer signals, as in the 2017 code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar.core import bounds
from rebar.estimators.base import hard_rollout, make_baseline
from rebar.estimators.multi_sample import MultiSample
from rebar.types import Estimate, Model, Noise


class NVIL(MultiSample):
    """See the module's docstring. Arguments and metrics: those of `MultiSample`."""

    unbiased = True
    generator_at_hard = True
    verified: Sequence[Mapping[str, Any]] = ({}, {"multi_sample": True})
    control_off: Mapping[str, float] = {"baseline_output": 0.0}

    def setup(self, model: Model, seed: int = 0) -> None:
        """Create the baseline."""
        self.baseline = make_baseline(model, seed, "nvil_baseline")

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        with tf.GradientTape(persistent=self.follows_bound) as tape:
            hard = hard_rollout(model, x, noise)
        f = bounds.split_samples(tf.stop_gradient(hard.objective), noise.n_samples)
        with tf.GradientTape() as control_tape:
            signal = self._signal(x, f)
            squared_signal = tf.reduce_mean(tf.square(signal))
        gradient = self.score_gradient(
            tape, hard, signal, noise.n_samples, model.trainable_variables
        )
        control = control_tape.gradient(squared_signal, self.trainable_variables)
        return Estimate(gradient, control, hard.objective, self.bound_metrics(f))

    def _signal(self, x, f):
        """Learning signal [N] for f [K, B]."""
        values = tf.tile(bounds.multi_sample(f), f.shape[:1]) if self.follows_bound else f
        return tf.reshape(values, [-1]) - self.baseline(x, n_samples=f.shape[0])

    def control_objective(self, model: Model, x: tf.Tensor, noise: Noise) -> tf.Tensor:
        """Return the mean squared learning signal."""
        f = bounds.split_samples(hard_rollout(model, x, noise).objective, noise.n_samples)
        return tf.reduce_mean(tf.square(self._signal(x, f)))
