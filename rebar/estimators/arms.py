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

`multi_sample`: for the bound L = log 1/K sum_k exp f_k of an example's K samples, let L_{k,l}^m be
L with f_k replaced by f_{k,l}^m, per main chain k, and v_{k,l}^m the weight of chain k in it:

    L_{k,l}^m = log 1/K ( sum_{j != k} exp f_j + exp f_{k,l}^m )
    v_{k,l}^m = 1/K exp(f_{k,l}^m - L_{k,l}^m)
    s_{k,l}^m = L_{k,l}^m - v_{k,l}^m
    g = - mean_B [ sum_{k,l} rho_{k,l} ( 1/(n-1) sum_m (s_{k,l}^m - mean_m s_{k,l}^m)
                                         (b_{k,l}^m - p) ) . d logits_{k,l}
                   + sum_k v_k d log p(x, b_k) ]

Unbiased for E L: in its derivative, L is the factor of d log q that is due to q's probabilities and
- v the one that is due to - log q in f. Given the other chains, both are functions of chain k's
layer l. (For other f, the derivative of f with respect to log q takes the place of - 1.)

1 + (n - 1) L evaluations of f per row. Nothing is learned.

Source: Dimitriev & Zhou 2021 (ARMS: Antithetic-REINFORCE-Multi-Sample Gradient for Binary
Variables, arXiv 2105.14141), with the Dirichlet copula. Differences from the published code: the
main chain is one of the n samples in every layer; rho is computed without the 1e-6 that code adds
to its denominator, which is at least 1/2 in the form above; p follows log p at the main chain.

Differences for the bound: that code divides the sum over k by K and omits v, which is right for
K = 1 only. Its n samples are further ones for all k, which is possible for one layer, and s is L,
with - sum_k v_k d log q(b_k) added to g. On four units with K = 4 and 8 evaluations the total
variance of that is 1.39, with n - 1 further samples per chain 0.68, and with v in s, too, 0.31.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import bernoulli, bound_gradients, bounds, families, logit_gradients
from rebar.errors import integer
from rebar.estimators.base import active_layers, hard_rollout
from rebar.estimators.layerwise import Layerwise, others, values
from rebar.estimators.multi_sample import MultiSample
from rebar.types import Estimate, Model, Noise, Rollout

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
        self.n_antithetic = integer(n_antithetic, "n_antithetic", 2, example=3)

    def _chains(self, shape):
        return self.n_antithetic - 1

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        if not self.follows_bound:
            return super().estimate(model, x, noise)
        noise = noise._replace(branches=())
        with tf.GradientTape(persistent=True) as tape:
            hard = hard_rollout(model, x, noise)
        fixed = bound_gradients.at_fixed_samples(tape, hard, noise.n_samples)
        derivatives = bound_gradients.log_q_derivatives(tape, hard)
        layers = active_layers(model, len(hard.logits))
        gradient = bound_gradients.mean_over_examples(
            tape,
            [hard.log_joint, *(hard.logits[layer] for layer in layers)],
            [
                fixed.log_joint,
                *(self._of_bound(model, x, noise, hard, i, derivatives[i]) for i in layers),
            ],
            noise.n_samples,
            model.trainable_variables,
        )
        metrics = self.metrics_at(model, x, noise, hard)
        return Estimate(gradient, [], tf.stop_gradient(hard.objective), metrics)

    def _cotangent(self, model, x, noise, hard, layer):
        samples = self._samples(noise, hard, layer)
        return self._arms(values(model, x, noise, hard, layer, samples), hard, layer, samples)

    def _of_bound(self, model, x, noise, hard, layer, derivative):
        """Cotangent of a layer's logits; `derivative` is that of f w.r.t. log q, [N]."""
        samples = self._samples(noise, hard, layer)
        with tf.GradientTape(persistent=True) as tape:
            chains = others(model, x, noise, hard, layer, samples)
        f = [chain.objective for chain in chains]
        d = [bound_gradients.log_q_derivatives(tape, chain)[layer] for chain in chains]
        signals = _signals(
            self._by_sample(hard.objective, *f), self._by_sample(derivative, *d), noise.n_samples
        )
        return self._arms(signals, hard, layer, samples)

    def _by_sample(self, *values):
        """Values of the main chain and the others as constants, [n, N]."""
        return tf.stop_gradient(tf.reshape(tf.concat(values, axis=0), [self.n_antithetic, -1]))

    def _samples(self, noise: Noise, hard: Rollout, layer: int) -> tf.Tensor:
        """Return b^2 ... b^n of a layer, [n - 1, N, H]."""
        logits = tf.stop_gradient(hard.logits[layer])
        u = families.uniforms_at(noise, layer, logits)
        key = noise_module.further_key(noise, _FURTHER + layer)
        shape = tf.concat([[self.n_antithetic - 1], tf.shape(u)], axis=0)
        return bernoulli.antithetic_samples(u, noise_module.uniforms(key, shape, u.dtype), logits)

    def _arms(self, f: tf.Tensor, hard: Rollout, layer: int, samples: tf.Tensor) -> tf.Tensor:
        """Return the cotangent of a layer's logits from values f [n, N], the main chain's first."""
        logits = tf.stop_gradient(hard.logits[layer])
        b = tf.concat([hard.samples[layer][tf.newaxis], samples], axis=0)
        return logit_gradients.arms(f, b, logits)


def _signals(f: tf.Tensor, derivative: tf.Tensor, n_samples: int) -> tf.Tensor:
    """L + v df/dlog q for each of the n values f [n, N] of a chain: [n, N]."""
    by_sample = [bounds.split_samples(value, n_samples) for value in tf.unstack(f)]
    replaced = [logit_gradients.bound_with_one_replaced(by_sample[0], v) for v in by_sample]
    bound = tf.reshape(tf.stack(replaced), tf.shape(f))
    return bound + tf.exp(f - bound) / n_samples * derivative
