"""Unordered set estimator: codes without replacement (CatUNORD).

Along the main chain b_1 ... b_L, let S be a set of k different codes of layer l, states of all its
variables: b_l and k - 1 further ones, drawn without replacement given the layer under it, with
probabilities p(s) = q(b_l = s | b_{l-1}), and f(s) the value of the chain that has s in layer l and
continues above with the main chain's noise. With N rows,

    g = - mean_N [ sum_l sum_{s in S} p(s) R(S, s) ( f(s) - sum_{s' in S} p(s') R_s(S, s') f(s') )
                         d log p(s)  +  d log p ]
    R(S, s) = P(S | s is drawn first) / P(S)
    R_s(S, s') = the same ratio after s is removed from S and from all codes;    R_s(S, s) = 1

Unbiased for the ELBO: given the layers under l and the noise above it, f is a function of b_l, and
p(s) R(S, s) is the probability that s was drawn first, given S: the estimator is the mean of
REINFORCE with an independent baseline over all orders of the set. Exact for a layer of at most k
codes. With many equally probable codes it tends to leave-one-out.

1 + sum_l (k_l - 1) evaluations of f per row; k_l is the smaller of k and the number of codes of
layer l. Nothing is learned.

Source: Kool, van Hoof & Welling 2020 (Estimating Gradients for Discrete Random Variables by
Sampling without Replacement, arXiv 2002.06043). Differences from the published code: the main chain
is one of the codes in every layer; P(S) is a sum over subsets instead of permutations
(`rebar.core.without_replacement`); p follows log p at the main chain.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import families, without_replacement
from rebar.errors import integer
from rebar.estimators.layerwise import Layerwise, values

_FURTHER = 80
"""Index of the first layer's further noise key."""


class UNORD(Layerwise):
    """See the module's docstring.

    Args:
      n_codes: the number k of codes, from 2 to 7.

    Metrics: none.
    """

    families = ("categorical",)
    verified: Sequence[Mapping[str, Any]] = ({}, {"n_codes": 2})

    def __init__(self, n_codes=3, **kwargs):
        super().__init__(**kwargs)
        most = without_replacement.MOST_CODES
        self.n_codes = integer(n_codes, "n_codes", 2, most, example=3)

    def _chains(self, shape):
        return min(self.n_codes, families.n_states(shape)) - 1

    def _cotangent(self, model, x, noise, hard, layer):
        z, logits = hard.samples[layer], tf.stop_gradient(hard.logits[layer])
        n_variables, n_categories = z.shape[1:]
        key = noise_module.further_key(noise, _FURTHER + layer)
        shape = [n_variables, tf.shape(z)[0], self.n_codes, n_categories]
        u = noise_module.uniforms(key, shape, tf.float64)
        others, gradient = without_replacement.chains(z, logits, u)
        return gradient(values(model, x, noise, hard, layer, others))
