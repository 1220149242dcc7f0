"""Base class of estimators with one gradient per layer, from chains that leave the main one."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar.core import gradients, samplers
from rebar.errors import RebarError
from rebar.estimators.base import Estimator, active_layers, hard_rollout
from rebar.types import Estimate, Model, Noise, Rollout, Shapes, capability


class Layerwise(Estimator):
    """Base class. Subclasses implement `_cotangent`; p follows log p at the main chain."""

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
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
        active = active_layers(model, len(hard.logits))
        cotangents = [
            self._cotangent(model, x, noise, hard, layer)
            if layer in active
            else tf.zeros_like(hard.logits[layer])
            for layer in range(len(hard.logits))
        ]
        gradient = gradients.logit_gradient(tape, hard, cotangents, model.trainable_variables)
        return Estimate(gradient, [], tf.stop_gradient(hard.objective), {})

    def _cotangent(
        self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout, layer: int
    ) -> tf.Tensor:
        """Return the cotangent of a layer's logits, [N, ...], for ascent."""
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
    """Return f of the main chain, then of its `others`: [1 + M, N], constants for tapes."""
    rollouts = [hard, *others(model, x, noise, hard, layer, samples)]
    f = tf.concat([rollout.objective for rollout in rollouts], axis=0)
    return tf.stop_gradient(tf.reshape(f, [1 + samples.shape[0], -1]))


def others(
    model: Model, x: tf.Tensor, noise: Noise, hard: Rollout, layer: int, samples: tf.Tensor
) -> list[Rollout]:
    """Roll out the chains that have other samples than the main one in a layer.

    Above the layer they continue with noise.branches[layer], or with the main chain's noise if
    there are no branches.

    Args:
      model, x, noise: arguments of `Estimator.estimate`.
      hard: the main chain.
      layer: layer where the chains separate.
      samples: [M, N, ...], M other samples of it per row.

    Returns:
      One rollout of M N rows, those of the first other sample first; or M rollouts if the model
      draws continuous latents.
    """

    def rollout(part):
        def other(logits):
            return tf.ensure_shape(tf.reshape(part, tf.shape(logits)), logits.shape)

        copies = part.shape[0]
        sampler = samplers.parted(noise, layer, hard.samples[:layer], other, copies)
        return model.rollout(x, sampler, copies * noise.n_samples)

    chains = samples.shape[0]
    each = capability(model, "continuous")
    return [rollout(part) for part in (tf.split(samples, chains) if each else [samples])]
