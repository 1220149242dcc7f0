"""LEG: local expectation gradients, the exact derivative of every unit (SBNLEG).

Along the main chain b_1 ... b_L, let f_li be f of the chain that has unit i of layer l flipped,
agrees with the main chain elsewhere up to layer l, and continues above. For each unit

    g_li = p_i (1 - p_i) (1 - 2 b_li) (f_li - f) = p_i (1 - p_i) [f(b_li = 1) - f(b_li = 0)]
    g = - mean_n [ sum_l g_l . d logits_l  +  d log p ]

Unbiased for the ELBO: the derivative of E f with respect to the logit of unit i is p_i (1 - p_i)
times the mean of f with b_i = 1 minus f with b_i = 0, given the other units and the noise above. g
is the mean of `BitFlip` over the units that it draws.

1 + sum_l D_l evaluations of f per row for layers of D_l units, `UNITS` flips per rollout, so that
the memory does not grow with D_l. Nothing is learned.

Source: Titsias & Lazaro-Gredilla 2015 (arXiv 1503.01494), for factors with local Markov blankets.
Differences: f is evaluated as a black box; any number of layers. A flipped chain continues with the
main chain's noise by default, which makes it RAM (reparameterization and marginalization, Tokui &
Sato 2017; arXiv 1611.01239). With `continuation="independent"` the noise above a layer is
independent of the main chain's, the same for all flips of a row.
"""

import tensorflow as tf

from rebar.core import logit_gradients
from rebar.estimators.layerwise import Continued, values
from rebar.types import capability

UNITS = 20
"""Units that are flipped in one rollout."""


class LEG(Continued):
    """See the module's docstring; arguments are those of `Continued`. Metrics: none."""

    families = ("bernoulli",)

    def _chains(self, shape):
        return shape[0]

    def _cotangent(self, model, x, noise, hard, layer):
        logits = tf.stop_gradient(hard.logits[layer])
        parts = [
            _flipped(model, x, noise, hard, layer, slice(start, start + UNITS))
            for start in range(0, logits.shape[1], UNITS)
        ]
        f, flipped = map(tf.stop_gradient, (hard.objective, tf.concat(parts, axis=1)))
        return logit_gradients.leg(f, flipped, hard.samples[layer], logits)


def _flipped(model, x, noise, hard, layer, units):
    """f of the chains with one of M units flipped, [N, M]."""
    method = capability(model, "flipped")
    if method and layer == len(hard.samples) - 1:
        f = method(x, hard, units, noise.n_samples)
        if f is not None:
            return f
    b = hard.samples[layer]
    flips = tf.eye(b.shape[1], dtype=b.dtype)[units, tf.newaxis]
    return tf.transpose(values(model, x, noise, hard, layer, b + flips * (1 - 2 * b))[1:])
