"""Samplers: functions (layer, logits [N, H]) -> samples [N, H], called by a model's rollout."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from rebar.core import bernoulli
from rebar.types import Model, Noise, Sampler, capability


def hard(noise: Noise) -> Sampler:
    """Return a sampler of Bernoulli samples at every layer."""
    return lambda layer, logits: bernoulli.hard_sample(
        logits, bernoulli.logistic(noise.uniforms[layer])
    )


def posterior(model: Model, noise: Noise) -> Sampler:
    """Return the sampler of a model's q: its `hard_sampler` if it has one, else `hard`."""
    return (capability(model, "hard_sampler") or hard)(noise)


def parted(
    noise: Noise,
    layer: int,
    below: Sequence[tf.Tensor],
    other: Callable[[tf.Tensor], tf.Tensor],
) -> Sampler:
    """Return a sampler of a chain that separates from the main one at a layer.

    It uses the samples `below` under the layer, another sample in it, and above it hard samples
    with noise.branches[layer], or the main chain's noise if there are no branches.

    Args:
      noise: noise of the main chain.
      layer: layer where the chains separate.
      below: main chain's samples of the layers under it, [N, H] each.
      other: function of the layer's logits [N, H] that returns its samples, e.g. antithetic ones,
        or those of the main chain with one unit flipped.
    """

    def sample(i: int, logits: tf.Tensor) -> tf.Tensor:
        if i < layer:
            return below[i]
        if i == layer:
            return other(logits)
        u = noise.branches[layer][i - layer - 1] if noise.branches else noise.uniforms[i]
        return bernoulli.hard_sample(logits, bernoulli.logistic(u))

    return sample


def antithetic(noise: Noise, layer: int, below: Sequence[tf.Tensor]) -> Sampler:
    """Return the sampler of a `parted` chain that has 1 - u instead of u in its layer."""
    z = -bernoulli.logistic(noise.uniforms[layer])
    return parted(noise, layer, below, lambda logits: bernoulli.hard_sample(logits, z))


def mean() -> Sampler:
    """Return the mean-field sampler: every unit takes its mean sigmoid(logits)."""
    return lambda layer, logits: tf.sigmoid(logits)


def fixed(samples: Sequence[tf.Tensor]) -> Sampler:
    """Return a sampler of predetermined samples."""
    return lambda layer, logits: samples[layer]


def relaxed(
    z: Sequence[tf.Tensor],
    temperature: Any,
    muprop_relaxation: bool = True,
    switch_layer: int = 0,
    below: Sequence[tf.Tensor] = (),
) -> Sampler:
    """Return a sampler that is relaxed from `switch_layer` on and returns `below` under it.

    Args:
      z: L x [N, H] logistic noise; entries under switch_layer are not used.
      temperature: scalar.
      muprop_relaxation: see `bernoulli.relaxed_sample`.
      switch_layer: first relaxed layer.
      below: hard samples of the layers under it, [N, H] each.
    """

    def sample(layer: int, logits: tf.Tensor) -> tf.Tensor:
        if layer < switch_layer:
            return below[layer]
        return bernoulli.relaxed_sample(logits, z[layer], temperature, muprop_relaxation)

    return sample
