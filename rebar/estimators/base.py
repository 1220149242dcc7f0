"""What every estimator is, and the control variates that several of them learn.

An estimator answers one question: given a model, a batch x [B, D] and noise, what is the gradient
of -mean f? It chooses samplers, rolls the model out, and returns gradients as values; it never
keeps the model. What it learns (baselines, scales, temperatures) are its own Keras weights, for
which it returns gradients of an objective of its choice.
"""

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import samplers
from rebar.core.gradients import require_rank, variable_names
from rebar.core.initializers import FanInInitializer
from rebar.errors import RebarError
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

      labels: those of the estimators that it runs side by side.
      log_temperature: the weight, where a temperature is learned.
      control_trained: whether training has updated what the estimator learns.
    """

    unbiased = True
    branches = False
    objective = "elbo"
    samples_per_chain = 1
    jit_pays = True
    generator_at_hard = False
    labels: Sequence[str] = ()
    log_temperature: Any = None
    control_trained = False

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

    def evaluations(self, n_layer: int, n_samples: int = 1) -> float:
        """Evaluations of f per example and step: complete passes of a row, hard or relaxed.

        Args:
          n_layer: stochastic layers of the model.
          n_samples: samples per example of the noise.
        """
        return n_samples

    def members(self, label: str = "") -> dict[str, "Estimator"]:
        """Label -> estimator: itself, or all that it runs side by side under their labels."""
        return {label: self}

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

    def __reduce__(self):
        """Refuse to be pickled and copied: Keras would lose what `setup` creates."""
        name = type(self).__name__
        raise RebarError(
            f"{name}: an estimator cannot be copied or pickled; create another one, call "
            "setup(model), and copy what it has learned with set_weights(estimator.get_weights())"
        )

    def aligned(self, *pairs: tuple) -> list:
        """(variable, gradient) pairs as a list aligned with self.trainable_variables."""
        gradients = {id(variable): gradient for variable, gradient in pairs}
        return [gradients[id(variable)] for variable in self.trainable_variables]


def checked_estimate(estimator: Estimator, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
    """estimator.estimate(model, x, noise), with every mistake of a plug-in named.

    Raises:
      RebarError: the result is no `Estimate`; a gradient is missing, None or of another shape; the
        objective is not [N]; a metric is not a scalar.
    """
    name = type(estimator).__name__
    estimate = estimator.estimate(model, x, noise)
    if not isinstance(estimate, Estimate):
        raise RebarError(
            f"{name}.estimate() returned a {type(estimate).__name__}: must be a rebar.Estimate; "
            "return rebar.Estimate(gradients, control_gradients, objective, metrics)"
        )
    for field, owner in (("gradients", model), ("control_gradients", estimator)):
        variables, values = owner.trainable_variables, getattr(estimate, field)
        names = variable_names(variables)
        if len(values) != len(variables):
            raise RebarError(
                f"{name}.estimate() returned {len(values)} {field}: must be one for each of "
                f"{len(variables)} variables, in their order: {', '.join(names) or 'none'}"
            )
        for variable, label, value in zip(variables, names, values, strict=True):
            if value is None:
                raise RebarError(
                    f"{name}.estimate() returned None in {field} for {label}: must be a tensor; "
                    "return zeros where nothing depends on it, e.g. with "
                    "rebar.core.gradients.gradient_or_zero"
                )
            if not tf.TensorShape(variable.shape).is_compatible_with(value.shape):
                raise RebarError(
                    f"{name}.estimate() returned {field} of shape {tuple(value.shape)} for "
                    f"{label}: must have its shape {tuple(variable.shape)}; return them in the "
                    "order of the variables"
                )
    require_rank(estimate.objective, 1, f"the objective that {name}.estimate() returned")
    checked_metrics(estimator, "estimate", estimate.metrics)
    return estimate


def checked_metrics(
    estimator: Estimator, method: str, metrics: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The metrics that a method of an estimator returned; RebarError if one is not a scalar."""
    for metric, value in metrics.items():
        shape = () if isinstance(value, int | float) else getattr(value, "shape", None)
        if shape is None or tf.TensorShape(shape).rank not in (0, None):
            given = "None" if value is None else f"of shape {shape}"
            raise RebarError(
                f"{type(estimator).__name__}.{method}() returned the metric {metric!r}, {given}: "
                "must be a scalar; reduce it with tf.reduce_mean"
            )
    return metrics


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
        self.hidden = self._dense(units, "tanh", "hidden", seed, math.prod(input_mean.shape))
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

    def call(self, x: tf.Tensor, n_samples: int = 1) -> tf.Tensor:
        """x [B, D] or [B, ...] -> [N], computed once per example and repeated for its samples."""
        values = self.output_layer(self.hidden(flat_rows(x - self.input_mean)))[:, 0]
        return tf.tile(values, [n_samples])


def flat_rows(x: tf.Tensor) -> tf.Tensor:
    """[B, ...] -> [B, D], for images that have more than one axis."""
    return x if x.shape.rank == 2 else tf.reshape(x, [tf.shape(x)[0], -1])


def positive_scale(raw: Any) -> tf.Tensor:
    """2 sigmoid(raw): a scale in (0, 2) that starts at 1 for raw = 0 (2017's parameterization)."""
    return 2 * tf.sigmoid(tf.convert_to_tensor(raw))


def hard_rollout(model: Model, x: tf.Tensor, noise: Noise) -> Rollout:
    """f and log q at samples of q."""
    return model.rollout(x, samplers.posterior(model, noise), noise.n_samples)
