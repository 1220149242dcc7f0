"""Keras layers of sigmoid belief networks.

Layer l = 0 is next to the data. Names follow the 2017 code: q_l maps to the logits of latent layer
l, p_l maps latent layer l to the logits of the layer below, and q_l_nonlinear_1 is a hidden layer
of a nonlinear transformation.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar import noise
from rebar.core import families, initializers
from rebar.core.validity import positive
from rebar.errors import RebarError
from rebar.types import Sampler

PRIORS = ("uniform", "learned")

LEAK = 0.3
"""Slope of leaky_relu below 0, as in the DisARM paper's networks."""


def _leaky_relu(a: tf.Tensor) -> tf.Tensor:
    # tf.nn.leaky_relu rounds its slope to float32.
    return tf.maximum(a, LEAK * a)


_ACTIVATIONS = {"tanh": "tanh", "leaky_relu": _leaky_relu}


def _activation(name: str) -> Any:
    if name not in _ACTIVATIONS:
        raise RebarError(f"activation={name!r}: choose from {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def layer_shape(units: int | Sequence[int]) -> tuple[int, ...]:
    """Return the shape (H,) of a layer of H Bernoulli units, or (V, C) of a pair."""
    return tuple(map(int, np.atleast_1d(units)))


@keras.saving.register_keras_serializable("rebar")
class Transformation(keras.layers.Layer):
    """Map between stochastic layers: linear, or two hidden layers and a linear one.

    Args:
      n_input, n_output: widths.
      n_hidden: width of the two hidden layers; 0 for a linear map.
      activation: activation of the hidden layers, "tanh" or "leaky_relu" (slope .3 below 0).
      initializer: kernel initializer, "2017" or "glorot", see `rebar.core.initializers`.
      seed: seed of the initial weights.
      temperature: T > 0, which divides the result.
      name: "q_0", "p_1", ...; prefix of the hidden layers' names.

    Raises:
      RebarError: an unknown activation or initializer.
    """

    def __init__(
        self,
        n_input,
        n_output,
        n_hidden=0,
        activation="tanh",
        initializer="2017",
        seed=0,
        temperature=1.0,
        name=None,
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.temperature = positive(temperature, "temperature")
        self._config = {
            "n_input": n_input,
            "n_output": n_output,
            "temperature": temperature,
            "n_hidden": n_hidden,
            "activation": activation,
            "initializer": initializer,
            "seed": seed,
        }
        hidden_activation = _activation(activation)
        self.dense = []
        width = n_input
        for i in (1, 2) if n_hidden else ():
            name_i = f"{self.name}_nonlinear_{i}"
            self.dense.append(self._dense(width, n_hidden, hidden_activation, name_i))
            width = n_hidden
        self.dense.append(self._dense(width, n_output, None, self.name))
        self.build((None, n_input))

    def _dense(self, n_input, n_output, activation, name):
        seed = noise.initializer_seed(self._config["seed"], name)
        layer = keras.layers.Dense(
            n_output,
            activation,
            kernel_initializer=initializers.by_name(self._config["initializer"], seed),
            name=name,
            dtype=self.dtype_policy,
        )
        layer.build((None, n_input))
        return layer

    def build(self, input_shape):
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[N, n_input] -> [N, n_output]."""
        for layer in self.dense:
            inputs = layer(inputs)
        return inputs if self.temperature == 1 else inputs / self.temperature

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}


@keras.saving.register_keras_serializable("rebar")
class LearnedPrior(keras.layers.Layer):
    """Prior p(b_L) of independent variables with logits that are initially 0: uniform.

    Args:
      n_units: H for logits [H] of Bernoulli units, or (V, C) for logits [V, C].
    """

    def __init__(self, n_units, name="prior", **kwargs):
        super().__init__(name=name, **kwargs)
        self.n_units = n_units
        shape = layer_shape(n_units)
        self.logits = self.add_weight(shape=shape, initializer="zeros", name="logits")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the logits [1, H] or [1, V, C] for any input."""
        return tf.convert_to_tensor(self.logits)[tf.newaxis]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "n_units": self.n_units}


@keras.saving.register_keras_serializable("rebar")
class RecognitionNetwork(keras.layers.Layer):
    """Recognition network q(b | x) = q(b_1 | x) q(b_2 | b_1) ... q(b_L | b_{L-1}).

    Args:
      n_input: width of the input.
      n_units: sizes of the latent layers, starting next to the data; see `SigmoidBeliefNetwork`.
      nonlinear: use two hidden layers per transformation.
      activation, initializer, seed, temperature: see `Transformation`.
    """

    def __init__(
        self,
        n_input,
        n_units,
        nonlinear=False,
        activation="tanh",
        initializer="2017",
        seed=0,
        temperature=1.0,
        name="recognition",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self._config = {
            "temperature": temperature,
            "n_input": n_input,
            "n_units": list(n_units),
            "nonlinear": nonlinear,
            "activation": activation,
            "initializer": initializer,
            "seed": seed,
        }
        self._shapes = tuple(map(layer_shape, n_units))
        widths = [n_input, *map(math.prod, self._shapes)]
        self.transformations = [
            Transformation(
                below,
                width,
                n_hidden=width if nonlinear else 0,
                activation=activation,
                initializer=initializer,
                seed=seed,
                temperature=temperature,
                name=f"q_{i}",
                dtype=self.dtype_policy,
            )
            for i, (below, width) in enumerate(itertools.pairwise(widths))
        ]
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        sampler: Sampler,
        n_samples: int = 1,
        encoded: tf.Tensor | None = None,
    ) -> tuple[tuple, tuple]:
        """Sample layer after layer.

        Args:
          inputs: [B, n_input] centered input; its logits are computed once per example.
          sampler: (layer, logits) -> samples.
          n_samples: S.
          encoded: [B, H] logits of the first layer, instead of inputs.

        Returns:
          samples and logits, L x [S * B, H] or [S * B, V, C] each.
        """
        samples: list[tf.Tensor] = []
        logits: list[tf.Tensor] = []
        for layer, transformation in enumerate(self.transformations):
            if layer == 0:
                first = transformation(inputs) if encoded is None else encoded
                a = tf.tile(first, [n_samples, 1])
            else:
                a = transformation(families.inputs(samples[-1]))
            logits.append(families.shaped(a, self._shapes[layer]))
            samples.append(sampler(layer, logits[-1]))
        return tuple(samples), tuple(logits)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}


@keras.saving.register_keras_serializable("rebar")
class GeneratorNetwork(keras.layers.Layer):
    """Generator p(b_{L-1} | b_L) ... p(b_1 | b_2) p(y | b_1) of n_output pixels y.

    Args:
      n_output: number of predicted pixels.
      n_units: sizes of the latent layers, starting next to the data; see `SigmoidBeliefNetwork`.
      output_bias: [n_output] constant added to the outputs (see `likelihoods.output_bias`).
      nonlinear: use two hidden layers per transformation.
      activation, initializer, seed: see `Transformation`.
    """

    def __init__(
        self,
        n_output,
        n_units,
        output_bias,
        nonlinear=False,
        activation="tanh",
        initializer="2017",
        seed=0,
        name="generator",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self._config = {
            "n_output": n_output,
            "n_units": list(n_units),
            "output_bias": [float(v) for v in output_bias],
            "nonlinear": nonlinear,
            "activation": activation,
            "initializer": initializer,
            "seed": seed,
        }
        self.output_bias = tf.constant(output_bias, self.compute_dtype)
        self._shapes = tuple(map(layer_shape, n_units))
        widths = [n_output, *map(math.prod, self._shapes)]
        self.transformations = [
            Transformation(
                widths[i + 1],
                widths[i],
                n_hidden=widths[i + 1] if nonlinear else 0,
                activation=activation,
                initializer=initializer,
                seed=seed,
                name=f"p_{i}",
                dtype=self.dtype_policy,
            )
            for i in reversed(range(len(n_units)))
        ]
        self.built = True

    def call(self, sample: tf.Tensor, layer: int) -> tf.Tensor:
        """Logits of the layer below `layer`; outputs for the pixels [N, n_output] for layer 0."""
        logits = self.transformations[-1 - layer](families.inputs(sample))
        if layer == 0:
            return logits + self.output_bias
        return families.shaped(logits, self._shapes[layer - 1])

    def log_hidden(self, samples: Sequence[tf.Tensor]) -> tf.Tensor:
        """sum_l log p(b_l | b_{l+1}) [N] below the top layer; 0 for one layer."""
        below = reversed(samples[:-1])
        logits = [self(samples[i], layer=i) for i in reversed(range(1, len(samples)))]
        terms = families.log_probs(list(below), logits)
        return tf.add_n(terms) if terms else tf.zeros([], self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}
