"""REINFORCE with the mean of an example's other samples as its baseline (SBNReinforceLOO).

With K samples b^1 ... b^K of each example, whole chains through all layers,

    g = - mean_x 1/K sum_k [ (f_k - mean_{j != k} f_j) d log q(b^k | x)  +  d log p(x, b^k) ]

Unbiased: the other samples do not depend on b^k, and E_q[d log q] = 0. One evaluation of f a row,
K an example, however many layers there are. Learns nothing.

For one layer and K = 2 the score of the logits is 1/2 (f_1 - f_2) (b^1 - b^2), the independent
pair with which the DisARM paper compares its antithetic one. For several layers whole chains are
compared: the learning signal of layer l holds what the layers under l do, too, while a pair of
chains that part at layer l (SBNARM, SBNDisARM) differs by layer l and what follows, at the price of
one more evaluation a layer.

Source: Kool, van Hoof & Welling 2019 (Buy 4 REINFORCE Samples, Get a Baseline for Free!); for two
samples also Dong, Mnih & Tucker 2020 (arXiv 2006.10680). p follows log p at all samples.
"""

import tensorflow as tf

from rebar.core import bounds, gradients, logit_gradients
from rebar.errors import RebarError
from rebar.estimators.base import Estimator, hard_rollout
from rebar.types import Estimate


class LeaveOneOut(Estimator):
    """See the module's docstring. Metrics: RMS of the learning signal, in nats.

    Raises (from `estimate`):
      RebarError: fewer than two samples an example.
    """

    unbiased = True
    generator_at_hard = True

    def estimate(self, model, x, noise):
        """Estimate the gradient; x [B, D]."""
        if noise.n_samples < 2:
            raise RebarError(
                "leave-one-out compares the samples of an example with one another, but "
                f"n_samples={noise.n_samples}; give n_samples=2 or more"
            )
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
        signal = learning_signal(hard.objective, noise.n_samples)
        gradient = gradients.score_gradient(tape, hard, [signal], model.trainable_variables)
        return Estimate(gradient, [], hard.objective, self.metrics(model, x, noise, hard))

    def metrics(self, model, x, noise, hard):
        """RMS of the learning signal; of f itself where an example has a single sample."""
        signal = learning_signal(hard.objective, noise.n_samples)
        return {"signal_rms": tf.sqrt(tf.reduce_mean(tf.square(signal)))}


def learning_signal(f: tf.Tensor, n_samples: int) -> tf.Tensor:
    """f minus the mean of f over the example's other samples, [N] -> [N]; f if there is none."""
    if n_samples < 2:
        return f
    return tf.reshape(logit_gradients.leave_one_out(bounds.split_samples(f, n_samples)), [-1])
