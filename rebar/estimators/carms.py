"""CARMS: leave-one-out of n coupled samples of categorical variables (CatCARMS).

Along the main chain b_1 ... b_L, let b_l^1 = b_l and b_l^2 ... b_l^n be n - 1 further samples of
layer l given the layer under it, coupled so that they differ more often than independent ones, and
f_l^m the value of the chain that has b_l^m in layer l and continues above with the main chain's
noise. With N rows, and a, c the categories of one variable in two samples,

    g = - mean_N [ sum_l 1/(n (n-1)) ( sum_{m < m'} r(a_m, a_m') (f_l^m - f_l^m') (b_l^m - b_l^m') )
                         . d logits_l  +  d log p ]
    r(a, c) = pi_a pi_c / P(a, c),    P(a, c) = probability of the pair

The samples: with e_m of a flat Dirichlet distribution, u_m = (1 - e_m)^(n-1) is uniform, and each
variable takes the category whose interval of the cumulative probabilities contains u_m. The order
of the categories in that sum is drawn per variable and shared by the n samples, so that

    P(a, c) = mean over orders of sum_corners +- G(s, t),
    G(s, t) = P(u_m <= s, u_m' <= t) = max(s^(1/(n-1)) + t^(1/(n-1)) - 1, 0)^(n-1)

The orders have one category of a pair first and the other one last, for all C (C - 1) / 2 pairs; if
these are more than 55, they are 32 random ones, and with probability 1/33 the samples are
independent instead. In both cases r is at most the number of cases, since P(a, c) >= pi_a pi_c if a
is first and c last. The main chain's u_1 is uniform in the interval of its category, and the others
follow from a flat Dirichlet vector times 1 - e_1.

Unbiased for the ELBO: given the layers under l and the noise above it, f is a function of b_l, the
other variables are independent of the pair, and r replaces P by independent pairs, of which this is
leave-one-out.

1 + (n - 1) L evaluations of f per row. Nothing is learned.

Source: Dimitriev & Zhou 2021 (CARMS: Categorical-Antithetic-REINFORCE Multi-Sample Gradient
Estimator, arXiv 2110.14002), with the Dirichlet copula. Differences from the published code: that
smooths r by 1e-3 and clips it to [0.01, 10], which is biased for peaked posteriors; few random
orders for many categories; the main chain is one of the n samples in every layer; p follows log p
at the main chain.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import coupled
from rebar.errors import integer
from rebar.estimators.layerwise import Layerwise, values

_FURTHER = 48
"""Index of the first layer's further noise key."""


class CARMS(Layerwise):
    """See the module's docstring.

    Args:
      n_antithetic: the number n of samples, at least 2.

    Metrics: none.
    """

    families = ("categorical",)
    verified: Sequence[Mapping[str, Any]] = ({}, {"n_antithetic": 2})

    def __init__(self, n_antithetic=3, **kwargs):
        super().__init__(**kwargs)
        self.n_antithetic = integer(n_antithetic, "n_antithetic", 2, example=3)

    def _chains(self, shape):
        return self.n_antithetic - 1

    def _cotangent(self, model, x, noise, hard, layer):
        z, logits = hard.samples[layer], tf.stop_gradient(hard.logits[layer])
        key = noise_module.further_key(noise, _FURTHER + layer)
        shape = tf.concat([[self.n_antithetic, 2], tf.shape(z)[:2]], axis=0)
        others, gradient = coupled.chains(z, logits, noise_module.uniforms(key, shape, tf.float64))
        return gradient(values(model, x, noise, hard, layer, others))
