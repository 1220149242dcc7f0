"""Local DisARM: antithetic pairs for the multi-sample bound (SBNLocalDisARM).

K = n_samples / 2 main chains per example, f_k = f of chain k, L(f) = log 1/K sum_k exp f_k. Let
f~_{k,l} be f of the chain that equals chain k below layer l, has the antithetic sample b~_{k,l} in
it, and continues above (`continuation`). With f_{k <- v} for f with f_k replaced by v,

    signal_{k,l} = L(f) - L(f_{k <- f~_{k,l}})
    g = - mean_B [ sum_{k,l} 1/2 signal_{k,l} (-1)^b~ 1[b != b~] sigmoid(|logits_{k,l}|)
                             . d logits_{k,l}
                   + d L at fixed samples ]

Unbiased for the gradient of -E L, for any number of layers: given the other chains and b_{k,l-1},
L(f) and L(f_{k <- f~}) are values of one function of chain k's layer l (the mean over its layers
above) at b and b~, so the term is DisARM's for the derivative of that mean w.r.t. the logits. Their
sum over chains and layers is the part of the gradient that is due to q's probabilities.

`symmetrized`: the two members of all pairs of layer l, with their continuations, are exchangeable
(u and 1 - u are equally likely), so all cotangents of the logits of layer l are averaged over both
orders: the other members of L are the main chains, or their branches f~ = f~_{.,l},

    signal_{k,l} = 1/2 [ L(f) - L(f_{k <- f~_k}) ] + 1/2 [ L(f~_{k <- f_k}) - L(f~) ]

and so is d L at fixed samples: for layer l's logits over these two sets of chains; for p, half is
that of the main chains, half the mean over l. All are unbiased, since each set is distributed like
K chains of q. The variance of every parameter is at most that of the plain form, because an average
of two (for p, 2 L) identically distributed values has at most the variance of one. Averaging d L
over all sets for every layer would be unbiased, too, but without this bound.

For one pair L = f, and this is DisARM (the symmetrized form follows p at both members). (1 + L) / 2
evaluations of f per row of the noise, whose first half, samples 0 to K - 1, is used. Nothing is
learned.

Source: Dong, Mnih & Tucker 2020 (arXiv 2006.10680), the extension to multi-sample bounds, for one
layer; the form for several layers is new. As in their code, a symmetrized estimate averages d L.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar.core import bound_gradients, bounds, logit_gradients, samplers
from rebar.errors import RebarError
from rebar.estimators.base import hard_rollout
from rebar.estimators.layerwise import chain_noise, continues_independently
from rebar.estimators.multi_sample import MultiSample
from rebar.noise import Noise, SiteUniforms
from rebar.types import Estimate, Model, Shapes


class LocalDisARM(MultiSample):
    """See the module's docstring. Metrics: the bound of the K main chains.

    Args:
      symmetrized: average over both orders of a pair.
      continuation: noise above the layer where a pair separates, "shared" or "independent".
      n_samples: 2 K in training, see `MultiSample`.
    """

    unbiased = True
    samples_per_chain = 2
    families = ("bernoulli",)
    verified: Sequence[Mapping[str, Any]] = (
        {},
        {"continuation": "independent"},
        {"symmetrized": False},
        {"symmetrized": False, "continuation": "independent"},
    )

    def __init__(self, symmetrized=True, continuation="shared", n_samples=None, **kwargs):
        super().__init__(multi_sample=True, n_samples=n_samples, **kwargs)
        self.symmetrized = symmetrized
        self.branches = continues_independently(continuation)

    def evaluations(self, shapes: Shapes, n_samples: int = 1) -> float:
        return (1 + len(shapes)) * n_samples / 2

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        """Estimate the gradient from an even number of samples; its objective is [N / 2]."""
        if noise.n_samples % 2:
            raise RebarError(
                f"n_samples={noise.n_samples}: must be even for LocalDisARM; set "
                f"n_samples={noise.n_samples + 1}"
            )
        noise = _first_half(chain_noise(noise, self.branches))
        n_samples = noise.n_samples
        with tf.GradientTape(persistent=True) as tape:
            main = hard_rollout(model, x, noise)
            branches = [
                model.rollout(x, samplers.antithetic(noise, layer, main.samples[:layer]), n_samples)
                for layer in range(len(main.logits))
            ]
        f = bounds.split_samples(tf.stop_gradient(main.objective), n_samples)
        fixed = bound_gradients.at_fixed_samples(tape, main, n_samples)
        cotangents, of_p = [], []
        for layer, branch in enumerate(branches):
            f_branch = bounds.split_samples(tf.stop_gradient(branch.objective), n_samples)
            b, b_antithetic = main.samples[layer], branch.samples[layer]
            logits = tf.stop_gradient(main.logits[layer])
            values = _values(f, f_branch)
            direct = logit_gradients.reinforce(fixed.log_q[layer], b, logits)
            if self.symmetrized:
                swapped = _values(f_branch, f)[::-1]
                values = [(v + s) / 2 for v, s in zip(values, swapped, strict=True)]
                of_branch = bound_gradients.at_fixed_samples(tape, branch, n_samples)
                of_p.append(of_branch.log_joint)
                direct += logit_gradients.reinforce(of_branch.log_q[layer], b_antithetic, logits)
                direct /= 2
            first, second = values
            disarm = logit_gradients.disarm(first, second, b, b_antithetic, logits)
            cotangents.append(disarm + direct)
        targets = [*main.logits, main.log_joint]
        if self.symmetrized:
            targets += [branch.log_joint for branch in branches]
            cotangents += [fixed.log_joint / 2, *(w / (2 * len(branches)) for w in of_p)]
        else:
            cotangents.append(fixed.log_joint)
        gradient = bound_gradients.mean_over_examples(
            tape, targets, cotangents, n_samples, model.trainable_variables
        )
        return Estimate(gradient, [], main.objective, self.bound_metrics(f))


def _values(f: tf.Tensor, replacement: tf.Tensor) -> list:
    """L(f) and, for each k, L with f_k replaced: [N] each, from [K, B]."""
    bound = tf.tile(bounds.multi_sample(f), [f.shape[0]])
    return [bound, tf.reshape(logit_gradients.bound_with_one_replaced(f, replacement), [-1])]


def _first_half(noise: Noise) -> Noise:
    """Return the noise of the first half of each example's samples."""
    if isinstance(noise.uniforms, SiteUniforms):
        main = noise.uniforms.undrawn()
        branches = noise.branches and noise.branches.beside(main)
        return noise._replace(uniforms=main, branches=branches, n_samples=noise.n_samples // 2)
    uniforms, branches = tf.nest.map_structure(
        lambda u: tf.split(u, 2)[0], (noise.uniforms, noise.branches)
    )
    return Noise(uniforms, noise.n_samples // 2, branches)
