"""REINFORCE with leave-one-out centring over the rows of the batch (2017: SBN).

    g = - mean_n [ (f_n - mean of the others' f) d log q(b_n | x_n) + d log p(x_n, b_n) ]

Unbiased: the mean of the other rows' f does not depend on b_n, and E_q[d log q] = 0.
One evaluation of f a row. Learns nothing.

Source: Williams 1992; the centring is that of the 2017 code, U.center. Differs from it for a
single row, where 2017 divides by zero: here the baseline is then 0.
"""

import tensorflow as tf

from rebar.core import gradients
from rebar.estimators.base import Estimator, hard_rollout
from rebar.types import Estimate


def centre(f: tf.Tensor) -> tf.Tensor:
    """f [N] minus the mean of the other rows [N]; f itself if there is no other row."""
    rows = tf.cast(tf.shape(f)[0], f.dtype)
    return f - (tf.reduce_sum(f) - f) / tf.maximum(rows - 1, 1)


class Reinforce(Estimator):
    """See the module's docstring. Metrics: RMS of the learning signal, in nats."""

    unbiased = True
    generator_at_hard = True

    def estimate(self, model, x, noise):
        """Estimate the gradient; x [B, D]."""
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
        gradient = gradients.score_gradient(
            tape, hard, [centre(hard.objective)], model.trainable_variables
        )
        return Estimate(gradient, [], hard.objective, self.metrics(model, x, noise, hard))

    def metrics(self, model, x, noise, hard):
        """RMS of the centred learning signal."""
        return {"signal_rms": tf.sqrt(tf.reduce_mean(tf.square(centre(hard.objective))))}
