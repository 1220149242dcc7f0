"""Base class of estimators with one gradient per layer, from chains that leave the main one."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar.core import bound_gradients, gradients, samplers
from rebar.errors import RebarError
from rebar.estimators.base import Estimator, active_layers, hard_rollout
from rebar.types import Estimate, Model, Noise, Rollout, Shapes, capability


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
        noise = chain_noise(noise, self.branches)
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


class Continued(Layerwise):
    """Base class of estimators with a choice of the noise above the layer where chains separate.

    Args:
      continuation: "shared" with the main chain, or "independent" of it.
    """

    verified: Sequence[Mapping[str, Any]] = ({}, {"continuation": "independent"})

    def __init__(self, continuation="shared", **kwargs):
        super().__init__(**kwargs)
        self.branches = continues_independently(continuation)


def continues_independently(continuation: str) -> bool:
    """Return True for "independent", False for "shared"; RebarError for other values."""
    if continuation not in ("shared", "independent"):
        raise RebarError(f"continuation={continuation!r}: choose from shared, independent")
    return continuation == "independent"


def chain_noise(noise: Noise, branches: bool) -> Noise:
    """Return the noise with its branches, which must exist, or without them."""
    if not branches:
        return noise._replace(branches=())
    if len(noise.uniforms) > 1 and not noise.branches:
        raise RebarError(
            "noise.branches: must not be empty with continuation='independent'; add them with "
            "rebar.noise.with_branches"
        )
    return noise


def values(
    model: Model, x: tf.Tensor, noise: Noise, hard: Rollout, layer: int, samples: tf.Tensor
) -> tf.Tensor:
    """Return f of the main chain, then of the chains that have other samples in a layer.

    These are one rollout, or one each if the model draws continuous latents. Above the layer they
    continue with noise.branches[layer], or with the main chain's noise if there are no branches.

    Args:
      model, x, noise: arguments of `Estimator.estimate`.
      hard: the main chain.
      layer: layer where the chains separate.
      samples: [M, N, ...], M other samples of it per row.

    Returns:
      [1 + M, N], constants for tapes.
    """

    def rollout(part):
        def other(logits):
            return tf.ensure_shape(tf.reshape(part, tf.shape(logits)), logits.shape)

        copies = part.shape[0]
        sampler = samplers.parted(noise, layer, hard.samples[:layer], other, copies)
        return model.rollout(x, sampler, copies * noise.n_samples).objective

    chains = samples.shape[0]
    each = capability(model, "continuous")
    parts = tf.split(samples, chains) if each and chains > 1 else [samples]
    f = tf.concat([hard.objective, *map(rollout, parts)], axis=0)
    return tf.stop_gradient(tf.reshape(f, [1 + chains, -1]))
