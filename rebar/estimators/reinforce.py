"""REINFORCE with leave-one-out centring over the rows of the batch (2017: SBN).

    g = - mean_n [ (f_n - mean of the others' f) d log q(b_n | x_n) + d log p(x_n, b_n) ]

Unbiased: the mean of the other rows' f does not depend on b_n, and E_q[d log q] = 0.
One evaluation of f a row. Learns nothing.

`multi_sample`: for the bound L = log 1/K sum_k exp f_k of an example's K samples,

    g = - mean_B [ sum_k (L(x) - mean of the other examples' L) d log q(b_k | x)
                   + d L at fixed samples ]

Unbiased: L depends on all of the example's samples, so its other rows must not be in the baseline;
the other examples' samples are independent of it.

Source: Williams 1992; the centring is that of the 2017 code, U.center. Differs from it for a
single row, where 2017 divides by zero: here the baseline is then 0.
"""

import tensorflow as tf

from rebar.core import bounds
from rebar.estimators.base import hard_rollout
from rebar.estimators.multi_sample import MultiSample
from rebar.types import Estimate


def centre(f: tf.Tensor) -> tf.Tensor:
    """f [N] minus the mean of the other rows [N]; f itself if there is no other row."""
    rows = tf.cast(tf.shape(f)[0], f.dtype)
    return f - (tf.reduce_sum(f) - f) / tf.maximum(rows - 1, 1)


class Reinforce(MultiSample):
    """See the module's docstring.

    Arguments: those of `MultiSample`. Metrics: its, then the RMS of the learning signal, in nats.
    """

    unbiased = True
    generator_at_hard = True

    def estimate(self, model, x, noise):
        """Estimate the gradient; x [B, D]."""
        with tf.GradientTape(persistent=self.follows_bound) as tape:
            hard = hard_rollout(model, x, noise)
        f = bounds.split_samples(tf.stop_gradient(hard.objective), noise.n_samples)
        signal = self._signal(f)
        gradient = self.score_gradient(
            tape, hard, signal, noise.n_samples, model.trainable_variables
        )
        return Estimate(gradient, [], hard.objective, self._named(f, signal))

    def metrics(self, model, x, noise, hard):
        """The bound if it is followed, and the RMS of the centred learning signal."""
        f = self.reported(hard.objective, noise.n_samples)
        return self._named(f, self._signal(f))

    def _signal(self, f):
        """The centred learning signal of each row, [N], for f [K, B]."""
        if self.follows_bound:
            return tf.tile(centre(bounds.multi_sample(f)), [f.shape[0]])
        return centre(tf.reshape(f, [-1]))

    def _named(self, f, signal):
        rms = tf.sqrt(tf.reduce_mean(tf.square(signal)))
        return {**self.bound_metrics(f), "signal_rms": rms}
