"""What every estimator is, and the control variates that several of them learn.

An estimator answers one question: given a model, a batch x [B, D] and noise, what is the gradient
of -mean f? It chooses samplers, rolls the model out, and returns gradients as values; it never
keeps the model. What it learns (baselines, scales, temperatures) are its own Keras weights, for
which it returns gradients of an objective of its choice.
"""

import dataclasses
import inspect

import keras
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import samplers
from rebar.initializers import FanInInitializer
from rebar.noise import Noise
from rebar.types import Estimate, Model, Rollout


class Estimator(keras.layers.Layer):
    """Base class. Subclasses implement `estimate`, and `setup` if they learn something.

    Class attributes:
      unbiased: whether the expected gradient is that of E_q f.
      branches: whether `noise.branches` are needed.
      objective: what it follows: "elbo", or "bound", the multi-sample bound.
      samples_per_chain: how many of the noise's samples one sample of the bound takes (2: a pair).
      jit_pays: whether compiling its steps with XLA is worth the time (docs/performance.md).
      generator_at_hard: whether the gradient of p's variables, on which the samples do not
        depend, is - mean d log_joint at the hard samples of the noise. A tracker then computes
        and remembers it once for all estimators that say so.
    """

    unbiased = True
    branches = False
    objective = "elbo"
    samples_per_chain = 1
    jit_pays = True
    generator_at_hard = False

    def __init__(self, name=None, **kwargs):
        # Keras would number the instances of a process; names must not depend on history.
        super().__init__(name=name or type(self).__name__.lower(), **kwargs)

    @classmethod
    def from_hparams(cls, hparams):
        """Build from the hparams whose names are those of the constructor's arguments.

        Where an hparam can say "auto", its `effective_` value counts.
        """
        values = {}
        known = {field.name for field in dataclasses.fields(hparams)}
        for name in inspect.signature(cls.__init__).parameters:
            if name in known:
                values[name] = getattr(hparams, f"effective_{name}", getattr(hparams, name))
        return cls(**values)

    def evaluations(self, n_layer: int) -> float:
        """Evaluations of f per row of the noise and step: full passes, hard or relaxed."""
        return 1

    def setup(self, model: Model, seed: int = 0) -> None:
        """Create what the estimator learns. Called once, before `estimate`."""

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        """Estimate the gradient of -mean f at x [B, D]."""
        raise NotImplementedError(f"{type(self).__name__} must implement estimate()")

    def metrics(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        """The numbers printed after the ELBO, without any gradient: name -> scalar.

        The same names in the same order as in `estimate`, but for those that only a gradient has.
        """
        return {}

    def aligned(self, *pairs) -> list:
        """(variable, gradient) pairs as a list aligned with self.trainable_variables."""
        gradients = {id(variable): gradient for variable, gradient in pairs}
        return [gradients[id(variable)] for variable in self.trainable_variables]


class InputBaseline(keras.layers.Layer):
    """c(x): a baseline that sees the input only, 100 tanh units and a linear one (2017 and NVIL).

    Args:
      input_mean: [D] subtracted from the input.
      seed: for the initial weights.
      units: of the hidden layer.
    """

    def __init__(self, input_mean, seed=0, units=100, name="baseline", **kwargs):
        super().__init__(name=name, **kwargs)
        self.input_mean = input_mean
        self.hidden = self._dense(units, "tanh", "hidden", seed, input_mean.shape[0])
        self.output_layer = self._dense(1, None, "output", seed, units)
        self.built = True

    def _dense(self, units, activation, name, seed, n_input):
        initializer = FanInInitializer(noise_module.initializer_seed(seed, f"{self.name}_{name}"))
        layer = keras.layers.Dense(
            units,
            activation,
            kernel_initializer=initializer,
            name=f"{self.name}_{name}",
            dtype=self.dtype_policy,
        )
        layer.build((None, n_input))
        return layer

    def call(self, x, n_samples: int = 1):
        """x [B, D] -> [N], computed once an example and repeated for its samples."""
        values = self.output_layer(self.hidden(x - self.input_mean))[:, 0]
        return tf.tile(values, [n_samples])


def positive_scale(raw) -> tf.Tensor:
    """2 sigmoid(raw): a scale in (0, 2) that starts at 1 for raw = 0 (2017's parameterization)."""
    return 2 * tf.sigmoid(tf.convert_to_tensor(raw))


def hard_rollout(model: Model, x: tf.Tensor, noise: Noise) -> Rollout:
    """f and log q at samples of q."""
    return model.rollout(x, samplers.posterior(model, noise), noise.n_samples)
