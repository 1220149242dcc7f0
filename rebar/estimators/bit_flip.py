"""Exact derivative of one unit, drawn at random (SBNBitFlip, SBNUGC, SBNtUGC).

Along the main chain b_1 ... b_L, let i_l be uniform on a set of T_l units of layer l, and f_l the
value of the chain that has unit i_l flipped in layer l and continues above with the main chain's
noise. With p = sigmoid(logits_l), m = min(p, 1 - p), D_l units, and DisARM's b~_l and f~_l,

    flip_l   = T_l p (1 - p) (1 - 2 b_l) (f_l - f) 1[unit = i_l]
    DisARM_l = 1/2 (f - f~_l) (-1)^b~_l 1[b_l != b~_l] (1 - m)

    BitFlip  g = - mean_n [ sum_l flip_l . d logits_l  +  d log p ],      T_l = D_l: all units
    UGC      flip_l at units with m < 1 / (2 D_l), DisARM_l at others,    T_l = D_l: all units
    tUGC     flip_l at T_l units, DisARM_l at others

In tUGC, T_l is the number of t in 1 ... D_l for which the t-th smallest m is less than 1 / (2 t),
per row, and the units are those with the T_l smallest m (of equal ones, the first); m increases and
1 / (2 t) decreases, so that these are the first T_l values of t. T_l = 0 if all p are 1/2.

Unbiased for the ELBO: the derivative of E f with respect to the logit of unit i is p_i (1 - p_i)
times the mean of f with b_i = 1 minus f with b_i = 0, and each unit of the set is drawn with
probability 1 / T_l. Which term a unit has depends on the logits alone. The mean of flip_l over i_l
is the local expectation gradient (LEG).

The second moment of flip_l at a unit is T m^2 (1 - m)^2 E d^2, with d the difference of its two
values of f, and that of DisARM_l is m / 2 (1 - m)^2 E d~^2, with d~ = f - f~_l where the unit's
pair differs. Therefore flips vary less if m < 1 / (2 T) and E d^2 <= E d~^2: saturated units do.
There are f with E d^2 > E d~^2, e.g. 1[b_1 = b_2], so that no order holds for all f.

1 + L evaluations of f per row for BitFlip, 1 + 2 L for UGC and tUGC, where both terms share f. The
variance of BitFlip grows with the number of units. Nothing is learned.

Source: BitFlip, local expectation gradients of Titsias & Lazaro-Gredilla 2015 (arXiv 1503.01494)
for one unit; UGC and tUGC, Kunes et al. 2022 (arXiv 2208.06124). Differences: any number of layers,
which share the noise above the flipped unit and the pair; the terms of UGC share the main chain,
which saves an evaluation; a new unit is drawn at each step; p follows log p at the main chain.
"""

import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import bernoulli, families, logit_gradients
from rebar.estimators.layerwise import Layerwise, values

_FURTHER = 32
"""Index of the first layer's further noise key."""


class BitFlip(Layerwise):
    """See the module's docstring. Metrics: none."""

    families = ("bernoulli",)

    def _cotangent(self, model, x, noise, hard, layer):
        b, logits = hard.samples[layer], tf.stop_gradient(hard.logits[layer])
        weight, flipped = _flip(noise, layer, b, tf.ones_like(b))
        f = values(model, x, noise, hard, layer, flipped[tf.newaxis])
        return _derivative(weight, f[0], f[1], b, logits)


class UGC(Layerwise):
    """See the module's docstring. Metrics: none."""

    families = ("bernoulli",)

    def _chains(self, shape):
        return 2

    def _cotangent(self, model, x, noise, hard, layer):
        b, logits = hard.samples[layer], tf.stop_gradient(hard.logits[layer])
        flips, drawn = self._units(bernoulli.rare(logits))
        weight, flipped = _flip(noise, layer, b, drawn)
        u = families.uniforms_at(noise, layer, logits)
        antithetic = bernoulli.hard_sample(logits, -bernoulli.logistic(u))
        f = values(model, x, noise, hard, layer, tf.stack([antithetic, flipped]))
        pair = logit_gradients.disarm(f[0], f[1], b, antithetic, logits)
        return tf.where(flips > 0, _derivative(weight, f[0], f[2], b, logits), pair)

    def _units(self, rare: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the units with flips, and those of which one is drawn: [N, H] in {0, 1}."""
        flips = tf.cast(2 * rare.shape[1] * rare < 1, rare.dtype)
        return flips, tf.ones_like(rare)


class TruncatedUGC(UGC):
    """tUGC, see the module's docstring. Metrics: none."""

    def _units(self, rare):
        order = tf.argsort(rare, axis=1, stable=True)
        rank = tf.argsort(order, axis=1)
        t = tf.range(1, rare.shape[1] + 1, dtype=rare.dtype)
        below = 2 * t * tf.gather(rare, order, batch_dims=1) < 1
        count = tf.reduce_sum(tf.cast(below, rank.dtype), axis=1, keepdims=True)  # T
        flips = tf.cast(rank < count, rare.dtype)
        return flips, flips


def _flip(noise, layer, b, drawn):
    """Draw a unit per row, uniformly from those with drawn = 1 in [N, H].

    Returns:
      weight: [N, H], their number at the unit, 0 elsewhere.
      flipped: [N, H], b with the unit flipped.
    """
    u = noise_module.uniforms(
        noise_module.further_key(noise, _FURTHER + layer), tf.shape(b)[:1], tf.float64
    )
    count = tf.reduce_sum(drawn, axis=1, keepdims=True)
    index = tf.floor(u[:, tf.newaxis] * tf.cast(count, u.dtype))
    unit = drawn * tf.cast(tf.cumsum(drawn, axis=1) - 1 == tf.cast(index, b.dtype), b.dtype)
    return count * unit, b + unit * (1 - 2 * b)


def _derivative(weight, f, flipped, b, logits):
    """weight p (1 - p) (1 - 2 b) (flipped - f), [N, H]."""
    difference = (flipped - f)[:, tf.newaxis]
    return families.BERNOULLI.mean_product(logits, weight * (1 - 2 * b) * difference)
