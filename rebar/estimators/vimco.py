"""VIMCO: per-sample baselines from the other samples, for the multi-sample bound (SBNVIMCO).

With K samples b_k ~ q(. | x) of an example and f_k = log p(x, b_k) - log q(b_k | x),

    L     = log 1/K sum_k exp f_k
    L^-k  = L with exp f_k replaced by a mean of the other exp f
    g     = - mean_B [ sum_k (L - L^-k) d log q(b_k | x)  +  d L at fixed samples ]
    d L at fixed samples = sum_k w_k (d log p(x, b_k) - d log q(b_k | x)),    w = softmax of f

Unbiased for the gradient of -E L: L^-k does not depend on b_k, and E_q[d log q] = 0. With several
layers, samples are chains and d log q_k is the sum over layers. K evaluations of f per example, one
per row. Nothing is learned.

The mean is the geometric one, whose logarithm is the mean of f, or the arithmetic one, with which
L - L^-k is the learning signal of OVIS with gamma = 0 plus the constant log(1 - 1/K).

Source: Mnih & Rezende 2016 (arXiv 1602.06725), the local learning signals. Differences from the
published code: signals are cotangents instead of factors of a loss, as in the DisARM authors' code
of the geometric form.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar.core import bounds, logit_gradients
from rebar.errors import RebarError
from rebar.estimators.base import hard_rollout, require_two_samples
from rebar.estimators.multi_sample import MultiSample
from rebar.types import Estimate, Model, Noise


class PerSample(MultiSample):
    """Base class of estimators with a learning signal per sample.

    Subclasses implement `_signal`.
    """

    unbiased = True

    def __init__(self, n_samples=None, **kwargs):
        super().__init__(multi_sample=True, n_samples=n_samples, **kwargs)

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        require_two_samples(noise, type(self).__name__)
        with tf.GradientTape(persistent=True) as tape:
            hard = hard_rollout(model, x, noise)
        f = bounds.split_samples(tf.stop_gradient(hard.objective), noise.n_samples)
        signal = tf.reshape(self._signal(f, model, x, noise), [-1])
        gradient = self.score_gradient(
            tape, hard, signal, noise.n_samples, model.trainable_variables
        )
        return Estimate(gradient, [], hard.objective, self.bound_metrics(f))

    def _signal(self, f: tf.Tensor, model: Model, x: tf.Tensor, noise: Noise) -> tf.Tensor:
        """Return the factors of d log q(b_k), [K, B], for f [K, B]."""
        raise NotImplementedError


class VIMCO(PerSample):
    """See the module's docstring.

    Args:
      n_samples: K in training, see `MultiSample`.
      vimco_mean: "geometric" or "arithmetic".
    """

    verified: Sequence[Mapping[str, Any]] = ({}, {"vimco_mean": "arithmetic"})

    def __init__(self, n_samples=None, vimco_mean="geometric", **kwargs):
        super().__init__(n_samples, **kwargs)
        if vimco_mean not in ("geometric", "arithmetic"):
            raise RebarError(f"vimco_mean={vimco_mean!r}: choose from geometric, arithmetic")
        self.vimco_mean = vimco_mean

    def _signal(self, f, model, x, noise):
        of_others = logit_gradients.mean_of_others
        if self.vimco_mean == "arithmetic":
            of_others = logit_gradients.log_mean_of_others
        replaced = logit_gradients.bound_with_one_replaced(f, of_others(f))
        return bounds.multi_sample(f) - replaced
