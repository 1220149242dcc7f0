"""OVIS: baselines of the multi-sample bound that minimize the variance as K grows (SBNOVIS).

With K samples b_k ~ q(. | x) of an example, f_k = log p(x, b_k) - log q(b_k | x), the bound
L = log 1/K sum_k exp f_k and v = softmax of f,

    g             = - mean_B [ sum_k s_k d log q(b_k | x)  +  d L at fixed samples ]
    asymptotic      s_k = - log(1 - v_k) + gamma (v_k + log(1 - 1/K))
    Monte Carlo     s_k = L - 1/S sum_s (L_ks - v_ks)
    d L at fixed samples = sum_k v_k (d log p(x, b_k) - d log q(b_k | x))

where L_ks and v_ks are L and v_k with f_k replaced by that of the fresh sample s of S, the same for
all k. The factor of d log q(b_k) that results is s_k - v_k, minus its mean over fresh samples in
the Monte Carlo form.

The Monte Carlo form, and the asymptotic one with gamma = 0, are unbiased for the gradient of -E L:
- log(1 - v_k) = L - log 1/K sum_{j != k} exp f_j, whose last term does not depend on b_k, nor do
L_ks and v_ks.

With gamma > 0 the estimate is BIASED: its mean is that of VIMCO's gradient plus gamma times
that of q's wake phase (see `rebar.estimators.rws`). Measured by enumeration on two units, the
relative bias at gamma = 1 is 0.94, 1.94 and 3.90 for K = 2, 3 and 5.

K + S evaluations of f per example; S = 0 is the asymptotic form. Nothing is learned.

Source: Lievin et al. 2020 (Optimal Variance Control of the Score Function Gradient Estimator for
Importance Weighted Bounds, arXiv 2008.01998), equation 17 for the asymptotic form. Differences:
gamma = 0 by default; signals are cotangents instead of factors of a loss.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import bernoulli, bounds, logit_gradients, samplers
from rebar.errors import RebarError, integer, is_number
from rebar.estimators.vimco import PerSample
from rebar.noise import SiteUniforms
from rebar.types import Model, Noise, Shapes

_FURTHER = 512
"""Index of the fresh samples' noise key."""


class OVIS(PerSample):
    """See the module's docstring.

    Args:
      n_samples: K in training, see `MultiSample`.
      ovis_gamma: gamma, from 0 to 1; biased above 0.
      ovis_samples: S, fresh samples of the Monte Carlo form; 0 for the asymptotic form.
    """

    verified: Sequence[Mapping[str, Any]] = ({}, {"ovis_samples": 2}, {"ovis_gamma": 1.0})

    def __init__(self, n_samples=None, ovis_gamma=0.0, ovis_samples=0, **kwargs):
        super().__init__(n_samples, **kwargs)
        if not is_number(ovis_gamma) or not 0 <= ovis_gamma <= 1:
            raise RebarError(f"ovis_gamma={ovis_gamma!r}: must be from 0 to 1; use 0 or 1")
        ovis_samples = integer(ovis_samples, "ovis_samples", 0, example=2)
        if ovis_samples and ovis_gamma:
            raise RebarError(
                f"ovis_gamma={ovis_gamma!r}: invalid with ovis_samples={ovis_samples}, as the "
                "Monte Carlo form has no gamma; set one of them to 0"
            )
        self.ovis_gamma, self.ovis_samples = ovis_gamma, ovis_samples
        self.unbiased = not ovis_gamma

    def evaluations(self, shapes: Shapes, n_samples: int = 1) -> float:
        return n_samples + self.ovis_samples

    def _signal(self, f, model, x, noise):
        nothing = tf.fill(tf.shape(f), tf.constant(-float("inf"), f.dtype))
        without = logit_gradients.bound_with_one_replaced(f, nothing)
        if self.ovis_samples:
            fresh = self._fresh(model, x, noise) - tf.constant(math.log(f.shape[0]), f.dtype)
            excess = fresh - without[:, tf.newaxis]  # [K, S, B]
            baselines = fresh + bernoulli.softplus(-excess) - tf.sigmoid(excess)
            return bounds.multi_sample(f) - tf.reduce_mean(baselines, axis=1)
        wake = tf.nn.softmax(f, axis=0) + tf.constant(math.log1p(-1 / f.shape[0]), f.dtype)
        return bounds.multi_sample(f) - without + self.ovis_gamma * wake

    def _fresh(self, model: Model, x: tf.Tensor, noise: Noise) -> tf.Tensor:
        """Return f of the fresh samples, [S, B]."""
        uniforms = SiteUniforms(noise_module.further_key(noise, _FURTHER))
        sampler = samplers.hard(Noise(uniforms, self.ovis_samples))
        f = model.rollout(x, sampler, self.ovis_samples).objective
        return bounds.split_samples(tf.stop_gradient(f), self.ovis_samples)
