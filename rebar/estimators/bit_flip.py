"""BitFlip: the exact derivative of one unit per layer, drawn at random (SBNBitFlip).

Along the main chain b_1 ... b_L, let i_l be uniform on the D_l units of layer l, and f_l the value
of the chain that has unit i_l flipped in layer l and continues above with the main chain's noise:

    g = - mean_n [ sum_l D_l p (1 - p) (1 - 2 b_l) (f_l - f) 1[unit = i_l] . d logits_l
                   + d log p ]

Unbiased for the ELBO: the derivative of E f with respect to the logit of unit i is p_i (1 - p_i)
times the mean of f with b_i = 1 minus f with b_i = 0, and each unit is drawn with probability
1 / D_l. The mean over i_l is the local expectation gradient (LEG), with D_l + 1 evaluations.

1 + L evaluations of f per row; the variance grows with the number of units. Nothing is learned.

Source: local expectation gradients of Titsias & Lazaro-Gredilla 2015 (arXiv 1503.01494), for one
unit. Differences: any number of layers, which share the noise above the flipped unit; p follows
log p at the main chain.
"""

import tensorflow as tf

from rebar import noise as noise_module
from rebar.estimators.layerwise import Layerwise, values

_FURTHER = 32
"""Index of the first layer's further noise key."""


class BitFlip(Layerwise):
    """See the module's docstring. Metrics: none."""

    families = ("bernoulli",)

    def _cotangent(self, model, x, noise, hard, layer):
        b, p = hard.samples[layer], tf.sigmoid(tf.stop_gradient(hard.logits[layer]))
        chosen = _unit(noise_module.further_key(noise, _FURTHER + layer), b)
        sign = 1 - 2 * b
        flipped = (b + chosen * sign)[tf.newaxis]
        f, flipped = tf.unstack(values(model, x, noise, hard, layer, flipped))
        difference = (flipped - f)[:, tf.newaxis]
        return b.shape[1] * chosen * p * (1 - p) * sign * difference


def _unit(key: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return one-hot vectors of a random unit per row, [N, H]."""
    u = noise_module.uniforms(key, tf.shape(b)[:1], tf.float64)
    return tf.one_hot(tf.cast(u * b.shape[1], tf.int32), b.shape[1], dtype=b.dtype)
