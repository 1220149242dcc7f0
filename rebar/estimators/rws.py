"""Reweighted wake-sleep with K samples: p follows the bound, q the wake phase (SBNRWS).

With K samples b_k ~ q(. | x) of an example, f_k = log p(x, b_k) - log q(b_k | x), w = softmax of f,

    g = - mean_B sum_k w_k (d log p(x, b_k) + d log q(b_k | x)),    w constant

The part of p is the gradient of the multi-sample bound (wake-theta). That of q (wake-phi) is a
self-normalized estimate of -d KL(p(b | x) || q(b | x)), another objective: BIASED for the
bound, and for the KL divergence by a term of order 1/K.

K evaluations of f per example, one per row. Nothing is learned.

Source: Bornschein & Bengio 2015 (Reweighted Wake-Sleep, arXiv 1406.2751), the wake phases; Le et
al. 2019 (Revisiting Reweighted Wake-Sleep, arXiv 1805.10469). Differences: no sleep phase, which
needs images drawn from p.
"""

import tensorflow as tf

from rebar.estimators.vimco import PerSample


class RWS(PerSample):
    """See the module's docstring; n_samples is K in training, see `MultiSample`."""

    unbiased = False

    def _signal(self, f, model, x, noise):
        # The gradient of the bound at fixed samples contains -w_k d log q(b_k).
        return 2 * tf.nn.softmax(f, axis=0)
