"""Base class of estimators with one gradient per layer, from chains that leave the main one."""

import functools
from collections.abc import Sequence

import tensorflow as tf

from rebar.core import bound_gradients, gradients, samplers
from rebar.estimators.base import Estimator, active_layers, hard_rollout
from rebar.types import Estimate, Model, Noise, Rollout, Shapes


class Layerwise(Estimator):
    """Base class. Subclasses implement `_cotangent`; p follows log p at the main chain.

    Those that follow the multi-sample bound return derivatives of it.
    """

    unbiased = True
    generator_at_hard = True

    def evaluations(self, shapes: Shapes, n_samples: int = 1) -> float:
        return (1 + sum(map(self._chains, shapes))) * n_samples

    def _chains(self, shape: Sequence[int]) -> int:
        """Return the number of further chains of a layer of shape (H,) or (V, C)."""
        del shape
        return 1

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        follows_bound = self.objective == "bound"
        with tf.GradientTape(persistent=follows_bound) as tape:
            hard = hard_rollout(model, x, noise)
        active = active_layers(model, len(hard.logits))
        cotangents = [
            self._cotangent(model, x, noise, hard, layer)
            if layer in active
            else tf.zeros_like(hard.logits[layer])
            for layer in range(len(hard.logits))
        ]
        variables = model.trainable_variables
        if follows_bound:
            gradient = bound_gradients.logit_gradient(
                tape, hard, cotangents, noise.n_samples, variables
            )
        else:
            gradient = gradients.logit_gradient(tape, hard, cotangents, variables)
        metrics = self.metrics_at(model, x, noise, hard)
        return Estimate(gradient, [], tf.stop_gradient(hard.objective), metrics)

    def _cotangent(
        self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout, layer: int
    ) -> tf.Tensor:
        """Return the cotangent of a layer's logits, [N, H], for ascent."""
        raise NotImplementedError


def values(
    model: Model, x: tf.Tensor, noise: Noise, hard: Rollout, layer: int, samples: Sequence
) -> tf.Tensor:
    """Return f of the main chain, then of the chains that have other samples in a layer.

    Those continue above it with the main chain's noise.

    Args:
      model, x, noise: arguments of `Estimator.estimate`.
      hard: the main chain.
      layer: layer where the chains separate.
      samples: M further samples of it, [N, ...] each.

    Returns:
      [1 + M, N], constants for tapes.
    """
    shared, f = noise._replace(branches=()), [hard.objective]
    for b in samples:
        sampler = samplers.parted(shared, layer, hard.samples[:layer], functools.partial(_value, b))
        f.append(model.rollout(x, sampler, noise.n_samples).objective)
    return tf.stop_gradient(tf.stack(f))


def _value(b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return b
