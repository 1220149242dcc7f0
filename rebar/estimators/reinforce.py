"""REINFORCE with leave-one-out centering over the rows of the batch (2017: SBN).

    g = - mean_n [ (f_n - mean of the others' f) d log q(b_n | x_n) + d log p(x_n, b_n) ]

Unbiased for the ELBO: the mean of the other rows' f does not depend on b_n, and E_q[d log q] = 0.
One evaluation of f per row. Nothing is learned.

`multi_sample`: for the bound L = log 1/K sum_k exp f_k of an example's K samples,

    g = - mean_B [ sum_k (L(x) - mean of the other examples' L) d log q(b_k | x)
                   + d L at fixed samples ]

Unbiased for E L: L depends on all samples of its example, so the baseline uses other examples only,
whose samples are independent.

Source: Williams 1992; the centering is that of the 2017 code, U.center, except for a single row,
where 2017 divides by zero and the baseline here is 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar.core import bounds
from rebar.estimators.base import hard_rollout
from rebar.estimators.multi_sample import MultiSample
from rebar.types import Estimate, Model, Noise, Rollout


def center(f: tf.Tensor) -> tf.Tensor:
    """f [N] minus the mean of the other rows [N]; f itself for a single row."""
    rows = tf.cast(tf.shape(f)[0], f.dtype)
    return f - (tf.reduce_sum(f) - f) / tf.maximum(rows - 1, 1)


class Reinforce(MultiSample):
    """See the module's docstring; arguments and metrics are those of `MultiSample`.

    Further metrics: RMS of the learning signal, in nats.
    """

    unbiased = True
    generator_at_hard = True
    couples_rows = True
    verified: Sequence[Mapping[str, Any]] = ({}, {"multi_sample": True})

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        with tf.GradientTape(persistent=self.follows_bound) as tape:
            hard = hard_rollout(model, x, noise)
        f = bounds.split_samples(tf.stop_gradient(hard.objective), noise.n_samples)
        signal = self._signal(f)
        gradient = self.score_gradient(
            tape, hard, signal, noise.n_samples, model.trainable_variables
        )
        return Estimate(gradient, [], hard.objective, self._named(f, signal))

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        f = self.reported(hard.objective, noise.n_samples)
        return self._named(f, self._signal(f))

    def _signal(self, f):
        """Centered learning signal per row, [N], for f [K, B]."""
        if self.follows_bound:
            return tf.tile(center(bounds.multi_sample(f)), [f.shape[0]])
        return center(tf.reshape(f, [-1]))

    def _named(self, f, signal):
        rms = tf.sqrt(tf.reduce_mean(tf.square(signal)))
        return {**self.bound_metrics(f), "signal_rms": rms}
