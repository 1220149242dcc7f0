"""REINFORCE with the mean of an example's other samples as its baseline (SBNReinforceLOO).

With K samples b^1 ... b^K of each example, complete chains through all layers,

    g = - mean_x 1/K sum_k [ (f_k - mean_{j != k} f_j) d log q(b^k | x)  +  d log p(x, b^k) ]

Unbiased for the ELBO: the other samples do not depend on b^k, and E_q[d log q] = 0. One evaluation
of f per row, K per example, for any number of layers. Nothing is learned.

For one layer and K = 2 the score of the logits is 1/2 (f_1 - f_2) (b^1 - b^2), the independent
pair that the DisARM paper compares with its antithetic one. With several layers, the learning
signal of layer l also contains the noise of the layers under it, unlike in SBNARM and SBNDisARM,
which take one more evaluation per layer.

Source: Kool, van Hoof & Welling 2019 (Buy 4 REINFORCE Samples, Get a Baseline for Free!); for two
samples also Dong, Mnih & Tucker 2020 (arXiv 2006.10680). p follows log p at all samples.
"""

import tensorflow as tf

from rebar.core import bounds, gradients, logit_gradients
from rebar.estimators.base import Estimator, hard_rollout, require_two_samples
from rebar.types import Estimate, Model, Noise, Rollout


class LeaveOneOut(Estimator):
    """See the module's docstring; n_samples >= 2. Metrics: RMS of the learning signal, in nats."""

    unbiased = True
    generator_at_hard = True

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        require_two_samples(noise, "LOO")
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
        signal = learning_signal(hard.objective, noise.n_samples)
        gradient = gradients.score_gradient(tape, hard, [signal], model.trainable_variables)
        return Estimate(gradient, [], hard.objective, self.metrics_at(model, x, noise, hard))

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        signal = learning_signal(hard.objective, noise.n_samples)
        return {"signal_rms": tf.sqrt(tf.reduce_mean(tf.square(signal)))}


def learning_signal(f: tf.Tensor, n_samples: int) -> tf.Tensor:
    """f minus the mean of f over the example's other samples, [N] -> [N]; f if n_samples=1."""
    if n_samples < 2:
        return f
    return tf.reshape(logit_gradients.leave_one_out(bounds.split_samples(f, n_samples)), [-1])
