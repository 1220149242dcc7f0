"""Samplers: functions (layer, logits [N, H]) -> samples [N, H] that a model's rollout calls.

Estimators differ mostly in the samplers they choose.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from rebar.core import bernoulli
from rebar.types import Model, Noise, Sampler, capability


def hard(noise: Noise) -> Sampler:
    """Bernoulli samples at every layer."""
    return lambda layer, logits: bernoulli.hard_sample(
        logits, bernoulli.logistic(noise.uniforms[layer])
    )


def posterior(model: Model, noise: Noise) -> Sampler:
    """The sampler that draws from a model's q: its `hard_sampler` if it has one, else `hard`."""
    return (capability(model, "hard_sampler") or hard)(noise)


def antithetic(noise: Noise, layer: int, below: Sequence[tf.Tensor]) -> Sampler:
    """The samples `below` under a layer, in it 1 - u for u, and hard samples above.

    The layers above see noise.branches[layer] where there are branches, else the noise of the main
    chain, so that the two chains of a pair differ by what the layer does and nothing else.

    Args:
      noise: of the main chain.
      layer: where the chain leaves the main one.
      below: the main chain's samples of the layers under it, [N, H] each.
    """

    def sample(i: int, logits: tf.Tensor) -> tf.Tensor:
        if i < layer:
            return below[i]
        u = noise.uniforms[i]
        if i == layer:
            return bernoulli.hard_sample(logits, -bernoulli.logistic(u))
        if noise.branches:
            u = noise.branches[layer][i - layer - 1]
        return bernoulli.hard_sample(logits, bernoulli.logistic(u))

    return sample


def mean() -> Sampler:
    """Mean-field: every unit takes its mean sigmoid(logits)."""
    return lambda layer, logits: tf.sigmoid(logits)


def given(samples: Sequence[tf.Tensor]) -> Sampler:
    """The samples passed in, whatever the logits."""
    return lambda layer, logits: samples[layer]


def relaxed(
    z: Sequence[tf.Tensor],
    temperature: Any,
    muprop_relaxation: bool = True,
    switch_layer: int = 0,
    below: Sequence[tf.Tensor] = (),
) -> Sampler:
    """Relaxed from `switch_layer` on; the samples `below` under it.

    Args:
      z: L x [N, H] logistic noise; entries under switch_layer are not used.
      temperature: scalar.
      muprop_relaxation: which relaxation, see `bernoulli.relaxed_sample`.
      switch_layer: the first relaxed layer.
      below: hard samples of the layers under it, [N, H] each.
    """

    def sample(layer: int, logits: tf.Tensor) -> tf.Tensor:
        if layer < switch_layer:
            return below[layer]
        return bernoulli.relaxed_sample(logits, z[layer], temperature, muprop_relaxation)

    return sample
