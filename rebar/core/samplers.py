"""Samplers: functions (layer, logits) -> samples of the same shape, called by a model's rollout.

The rank of the logits, [N, H] or [N, V, C], names the family, see `rebar.core.families`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from rebar.core import bernoulli, families
from rebar.types import Noise, Sampler


def hard(noise: Noise) -> Sampler:
    """Return a sampler of hard samples at every layer."""
    return lambda layer, logits: families.of(logits).hard_sample(
        logits, families.noise_at(noise, layer, logits)
    )


def parted(
    noise: Noise,
    layer: int,
    below: Sequence[tf.Tensor],
    other: Callable[[tf.Tensor], tf.Tensor],
    copies: int = 1,
) -> Sampler:
    """Return a sampler of chains that separate from the main one at a layer.

    It uses the samples `below` under the layer, another sample in it, and above it hard samples
    with noise.branches[layer], or the main chain's noise if there are no branches.

    Args:
      noise: noise of the main chain.
      layer: layer where the chains separate.
      below: main chain's samples of the layers under it, [N, H] each.
      other: function of the layer's logits [N, H] that returns its samples, e.g. antithetic ones,
        or those of the main chain with one unit flipped.
      copies: number of chains per row of the main one; their logits and samples are
        [copies * N, H], chain by chain.
    """

    def sample(i: int, logits: tf.Tensor) -> tf.Tensor:
        if i < layer:
            return families.repeated(below[i], copies)
        if i == layer:
            return other(logits)
        if noise.branches:
            u = families.like_logits(noise.branches[layer][i - layer - 1], logits)
        else:
            u = families.uniforms_at(noise, i, logits)
        family = families.of(logits)
        return family.hard_sample(logits, family.noise(families.repeated(u, copies)))

    return sample


def antithetic(noise: Noise, layer: int, below: Sequence[tf.Tensor]) -> Sampler:
    """Return the sampler of a `parted` chain with 1 - u instead of u in its layer of units."""
    z = -bernoulli.logistic(noise.uniforms[layer])
    return parted(noise, layer, below, lambda logits: bernoulli.hard_sample(logits, z))


def mean() -> Sampler:
    """Return the mean-field sampler: every variable takes its mean."""
    return lambda layer, logits: families.of(logits).mean(logits)


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
      z: L x [N, ...] noise of the logits; entries under switch_layer are not used.
      temperature: scalar.
      muprop_relaxation: see `rebar.core.families`.
      switch_layer: first relaxed layer.
      below: hard samples of the layers under it, [N, ...] each.
    """

    def sample(layer: int, logits: tf.Tensor) -> tf.Tensor:
        if layer < switch_layer:
            return below[layer]
        relaxed_sample = families.of(logits).relaxed_sample
        return relaxed_sample(logits, z[layer], temperature, muprop_relaxation)

    return sample
