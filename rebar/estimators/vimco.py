"""VIMCO: per-sample baselines from the other samples, for the multi-sample bound (SBNVIMCO).

With K samples b_k ~ q(. | x) of an example and f_k = log p(x, b_k) - log q(b_k | x),

    L     = log 1/K sum_k exp f_k
    L^-k  = L with f_k replaced by the mean of the other f
    g     = - mean_B [ sum_k (L - L^-k) d log q(b_k | x)  +  d L at fixed samples ]
    d L at fixed samples = sum_k w_k (d log p(x, b_k) - d log q(b_k | x)),    w = softmax of f

Unbiased for the gradient of -E L: L^-k does not depend on b_k, and E_q[d log q] = 0. With several
layers, samples are chains and d log q_k is the sum over layers. K evaluations of f per example, one
per row. Nothing is learned.

Source: Mnih & Rezende 2016 (arXiv 1602.06725), the local learning signals with the geometric mean:
the mean of f is its logarithm. Equal to the DisARM authors' code, except that signals are
cotangents instead of factors of a loss.
"""

import tensorflow as tf

from rebar.core import bounds, logit_gradients
from rebar.errors import RebarError
from rebar.estimators.base import hard_rollout
from rebar.estimators.multi_sample import MultiSample
from rebar.types import Estimate, Model, Noise


class VIMCO(MultiSample):
    """See the module's docstring; n_samples is K in training, see `MultiSample`."""

    unbiased = True

    def __init__(self, n_samples=None, **kwargs):
        super().__init__(multi_sample=True, n_samples=n_samples, **kwargs)

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        if noise.n_samples < 2:
            raise RebarError(
                f"n_samples={noise.n_samples}: must be at least 2 for VIMCO; set n_samples=2"
            )
        with tf.GradientTape(persistent=True) as tape:
            hard = hard_rollout(model, x, noise)
        f = bounds.split_samples(tf.stop_gradient(hard.objective), noise.n_samples)
        without = logit_gradients.bound_with_one_replaced(f, logit_gradients.mean_of_others(f))
        signal = tf.reshape(bounds.multi_sample(f) - without, [-1])
        gradient = self.score_gradient(
            tape, hard, signal, noise.n_samples, model.trainable_variables
        )
        return Estimate(gradient, [], hard.objective, self.bound_metrics(f))
