"""ARMS: leave-one-out of n antithetic samples (SBNARMS).

Along the main chain b_1 ... b_L, let b_l^1 = b_l and b_l^2 ... b_l^n be n - 1 further samples of
layer l given the layer under it, jointly antithetic, and f_l^m the value of the chain that has
b_l^m in layer l and continues above with the main chain's noise. With N rows, and q = min(p, 1 - p)
per unit,

    g = - mean_N [ sum_l rho_l ( 1/(n-1) sum_m (f_l^m - mean_m f_l^m) (b_l^m - p) ) . d logits_l
                   + d log p ]
    rho = (1 - q) / (1 - max(2 - q^(-1/(n-1)), 0)^(n-1))

The samples: with e_m of a flat Dirichlet distribution, v_m = (1 - e_m)^(n-1) is uniform, and b^m
takes the less probable value where v_m < q. rho = p (1 - p) / (p - P(b^m = b^m' = 1)) corrects for
their correlation. The first of them is the main chain's: e_1 follows from its uniform, and the
others are a flat Dirichlet vector times 1 - e_1.

Unbiased for the ELBO: given the layers under l and the noise above it, f is a function of b_l, and
E[(f^m - f^m') (b^m - p)] for a pair is (p - P(both are 1)) / (p (1 - p)) times the gradient. With
n = 2 it is DisARM; rho = 1 and independent samples make it LOO.

`multi_sample`: for the bound L = log 1/K sum_k exp f_k of an example's K samples, f_l^m is replaced
by L with f_k replaced by f_{k,l}^m, per main chain k:

    L_{k,l}^m = log 1/K ( sum_{j != k} exp f_j + exp f_{k,l}^m )
    g = - mean_B [ sum_{k,l} rho_{k,l} ( 1/(n-1) sum_m (L_{k,l}^m - mean_m L_{k,l}^m)
                                         (b_{k,l}^m - p) ) . d logits_{k,l}
                   + d L at fixed samples ]

Unbiased for E L: given the other chains, L_{k,l}^m is a function of chain k's layer l. With n = 2
it is SBNLocalDisARM with symmetrized=false.

1 + (n - 1) L evaluations of f per row. Nothing is learned.

Source: Dimitriev & Zhou 2021 (ARMS: Antithetic-REINFORCE-Multi-Sample Gradient for Binary
Variables, arXiv 2105.14141), with the Dirichlet copula. Differences from the published code: the
main chain is one of the n samples in every layer; rho is computed without the 1e-6 that code adds
to its denominator, which is at least 1/2 in the form above; p follows log p at the main chain. For
the bound that code divides the sum over k by K and omits d log q at fixed samples, which is right
for K = 1 only. It uses n further samples for all k, which is possible for one layer; here every
chain has n - 1 of its own, with less variance at equal evaluations (0.68 instead of 1.39 at K = 4
and 8 evaluations on four units).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import bernoulli, bounds, families, logit_gradients
from rebar.errors import RebarError
from rebar.estimators.layerwise import Layerwise, values
from rebar.estimators.multi_sample import MultiSample

_FURTHER = 16
"""Index of the first layer's further noise key."""


class ARMS(MultiSample, Layerwise):
    """See the module's docstring.

    Args:
      n_antithetic: the number n of samples, at least 2.
      multi_sample, n_samples: see `MultiSample`, also for the metrics.
    """

    families = ("bernoulli",)
    verified: Sequence[Mapping[str, Any]] = (
        {},
        {"n_antithetic": 2},
        {"n_antithetic": 4},
        {"multi_sample": True},
    )

    def __init__(self, n_antithetic=3, multi_sample=False, n_samples=None, **kwargs):
        super().__init__(multi_sample=multi_sample, n_samples=n_samples, **kwargs)
        self.n_antithetic = at_least_two(n_antithetic)

    def _chains(self, shape):
        return self.n_antithetic - 1

    def _cotangent(self, model, x, noise, hard, layer):
        logits = tf.stop_gradient(hard.logits[layer])
        u = families.uniforms_at(noise, layer, logits)
        key = noise_module.further_key(noise, _FURTHER + layer)
        others = antithetic_samples(u, logits, self.n_antithetic, key)
        f = values(model, x, noise, hard, layer, others)
        if self.follows_bound:
            f = _bounds(f, noise.n_samples)
        b = tf.concat([hard.samples[layer][tf.newaxis], others], axis=0)
        signal = (f - tf.reduce_mean(f, axis=0))[..., tf.newaxis]
        summed = tf.reduce_sum(signal * (b - tf.sigmoid(logits)), axis=0)
        return correction(logits, self.n_antithetic) / (self.n_antithetic - 1) * summed


def at_least_two(n_antithetic: int) -> int:
    """Return a number of samples; RebarError unless it is an integer of at least 2."""
    if not isinstance(n_antithetic, int) or n_antithetic < 2:
        raise RebarError(
            f"n_antithetic={n_antithetic!r}: must be an integer of at least 2; use e.g. 3"
        )
    return n_antithetic


def _bounds(f: tf.Tensor, n_samples: int) -> tf.Tensor:
    """L with f_k replaced by each of f [n, N] of chain k, the first of which is f_k: [n, N]."""
    f = [bounds.split_samples(of_chain, n_samples) for of_chain in tf.unstack(f)]
    replaced = [logit_gradients.bound_with_one_replaced(f[0], other) for other in f]
    return tf.reshape(tf.stack(replaced), [len(f), -1])


def correction(logits: tf.Tensor, n: int) -> tf.Tensor:
    """Return rho, with the shape of the logits."""
    q = bernoulli.rare(logits)
    return (1 - q) / (1 - tf.maximum(2 - q ** (-1 / (n - 1)), 0) ** (n - 1))


def antithetic_samples(u: tf.Tensor, logits: tf.Tensor, n: int, key: tf.Tensor) -> tf.Tensor:
    """Return b^2 ... b^n, antithetic to the samples 1[u > 1 - p]: [n - 1, N, H].

    Args:
      u: [N, H] uniforms of the main chain.
      logits: [N, H].
      n: number of samples, including the main chain's.
      key: [2], key of the other samples' noise.
    """
    one_is_rare = logits < 0
    first = tf.where(one_is_rare, 1 - u, u) ** (1 / (n - 1))  # 1 - e_1
    shape = tf.concat([[n - 1], tf.shape(u)], axis=0)
    e = -tf.math.log(noise_module.uniforms(key, shape, u.dtype))
    v = (1 - first * e / tf.reduce_sum(e, axis=0)) ** (n - 1)
    return tf.cast(tf.equal(v < bernoulli.rare(logits), one_is_rare), u.dtype)
