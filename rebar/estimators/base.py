"""Base class of estimators, validation of their results, and baselines.

An estimator computes the gradient of -mean f for a model, a batch x [B, D] and noise. It chooses
samplers, rolls the model out, and returns gradients as values; it keeps no reference to the model.
Its learned parameters (baselines, scales, temperatures) are Keras weights, for which it returns
gradients of an objective of its choice.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import samplers
from rebar.core.gradients import (
    gradient_or_zero,
    mean_square,
    require_rank,
    variable_names,
)
from rebar.core.initializers import FanInInitializer
from rebar.errors import RebarError
from rebar.noise import Noise
from rebar.types import Estimate, Model, Rollout, Sampler, Shapes, bind, capability

CONTROL_RATE = 10
"""Learning rate of what estimators learn, relative to that of the model (2017)."""


class Estimator(keras.layers.Layer):
    """Base class. Subclasses implement `estimate`, and `setup` if they have learned parameters.

    Class attributes:
      unbiased: the expected gradient is that of the objective.
      branches: `noise.branches` are required.
      objective: "elbo", or "bound", the multi-sample bound.
      samples_per_chain: samples of the noise per sample of the bound (2: a pair).
      jit_pays: compiling steps with XLA is faster (docs/performance.md).
      generator_at_hard: the gradient of p's variables, on which samples do not depend, is
        - mean d log_joint at the hard samples of the noise. A tracker computes it once for all
        such estimators.
      own_samples: samples per example, in a tracker whose noise has another number; or 0.
      labels: labels of the estimators that it runs side by side.
      log_temperature: weight of a learned temperature, or None.
      control_trained: training has updated the learned parameters.
      families: kinds of latent variables that it supports.
      relaxes: f is evaluated at samples that are not hard, and differentiated there.
      follows_posterior: the main chain's samples are those of `hard_rollout`; else its samples
        have another distribution.
      through: gradients flow through its samples, by `sample_through`.
      posterior_temperature: T by which models divide logits to get those of q, which estimators
        see; see `rebar.estimators.straight_through`.
      couples_rows: the estimate of a batch is not the mean of its examples' estimates.
      verified: constructor arguments that `rebar.testing` verifies: the first in every problem,
        further ones at every number of layers.
      control_rates: maps a part of weights' names to their learning rate, as a factor of that of
        other control variates, and Adam's decay of the second moment. The first match counts.
      control_off: maps a learned weight to the value that disables it; others keep theirs.
    """

    unbiased = True
    branches = False
    objective = "elbo"
    samples_per_chain = 1
    jit_pays = True
    generator_at_hard = False
    own_samples = 0
    labels: Sequence[str] = ()
    log_temperature: Any = None
    control_trained = False
    families: Sequence[str] = ("bernoulli", "categorical")
    relaxes = False
    follows_posterior = True
    through = False
    posterior_temperature: Any = 1.0
    couples_rows = False
    verified: Sequence[Mapping[str, Any]] = ({},)
    control_rates: Mapping[str, tuple[float, float]] = {}
    control_off: Mapping[str, float] = {}

    def __init__(self, name=None, **kwargs):
        # Keras numbers the instances of a process; names must not depend on earlier ones.
        super().__init__(name=name or type(self).__name__.lower(), **kwargs)

    @classmethod
    def from_hparams(cls, hparams):
        """Build from the hparams named like the constructor's arguments, with "auto" resolved."""
        values = hparams.values()
        return cls(
            **{
                name: getattr(hparams, f"effective_{name}", values[name])
                for name in inspect.signature(cls.__init__).parameters
                if name in values
            }
        )

    def evaluations(self, shapes: Shapes, n_samples: int = 1) -> float:
        """Return evaluations of f per example and step: complete passes of a row.

        Args:
          shapes: shapes of a row of each layer, (H,) or (V, C); see `rebar.core.families.shapes`.
          n_samples: samples per example of the noise.
        """
        return n_samples

    def members(self, label: str = "") -> dict[str, "Estimator"]:
        """Label -> estimator: itself, or all that it runs side by side under their labels."""
        return {label: self}

    def setup(self, model: Model, seed: int = 0) -> None:
        """Create the learned parameters. Called once, before `estimate`."""
        del model, seed  # AutoGraph fails on functions without statements

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        """Estimate the gradient of -mean f at x [B, D]."""
        raise NotImplementedError(f"{type(self).__name__} must implement estimate()")

    def sample_through(self, logits: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Return samples of one layer through which gradients flow to its logits.

        Args:
          logits: [N, H] or [N, V, C].
          key: [2], key of the layer's noise.
        """
        raise NotImplementedError(f"{type(self).__name__} has no differentiable samples")

    def control_objective(self, model: Model, x: tf.Tensor, noise: Noise) -> tf.Tensor:
        """Return the scalar whose gradient `control_gradients` are, to verify them.

        By default the mean square over components of one estimate, whose mean is the variance plus
        a constant if the estimator is unbiased.
        """
        return mean_square(self.estimate(model, x, noise).gradients)

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        """Return the numbers printed after the ELBO: name -> scalar.

        Names and order are those of `estimate`, without the ones that need a gradient.
        """
        return {}

    def __reduce__(self):
        """Raise RebarError when pickled or copied: Keras would lose the weights of `setup`."""
        name = type(self).__name__
        raise RebarError(
            f"{name}: copying and pickling of estimators are unsupported; create another one, call "
            "setup(model), and copy its weights with set_weights(estimator.get_weights())"
        )

    def aligned(self, *pairs: tuple) -> list:
        """Sort (variable, gradient) pairs in the order of self.trainable_variables."""
        gradients = {id(variable): gradient for variable, gradient in pairs}
        return [gradients[id(variable)] for variable in self.trainable_variables]


def checked_estimate(estimator: Estimator, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
    """Return estimator.estimate(model, x, noise) after validation.

    Raises:
      RebarError: the result is not an `Estimate`, a gradient is missing, None or of another shape,
        the objective is not [N], or a metric is not a scalar.
    """
    name = type(estimator).__name__
    estimate = estimator.estimate(bind(model, noise), x, noise)
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
    rows, batch = estimate.objective.shape[0], x.shape[0]
    if rows is not None and batch and (rows < batch or rows % batch):
        raise RebarError(
            f"{name}.estimate() returned an objective of shape [{rows}] for {batch} examples: must "
            "have one value per row, a multiple of that; return rollout.objective"
        )
    checked_metrics(estimator, "estimate", estimate.metrics)
    return estimate


def checked_metrics(
    estimator: Estimator, method: str, metrics: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the metrics from a method of an estimator; RebarError if one is not a scalar."""
    for metric, value in metrics.items():
        shape = () if isinstance(value, int | float) else getattr(value, "shape", None)
        if shape is None or tf.TensorShape(shape).rank not in (0, None):
            kind = "None" if value is None else f"of shape {shape}"
            raise RebarError(
                f"{type(estimator).__name__}.{method}() returned the metric {metric!r}, {kind}: "
                "must be a scalar; reduce it with tf.reduce_mean"
            )
    return metrics


class InputBaseline(keras.layers.Layer):
    """Baseline c(x) of the input: 100 tanh units and a linear one (2017 and NVIL).

    Args:
      input_mean: [D] mean subtracted from the input.
      seed: seed of the initial weights.
      units: width of the hidden layer.
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
        """x [B, D] or [B, ...] -> [N]: one value per example, repeated for its samples."""
        values = self.output_layer(self.hidden(flat_rows(x - self.input_mean)))[:, 0]
        return tf.tile(values, [n_samples])


def make_baseline(model: Model, seed: int, name: str) -> Any:
    """Return a new baseline c(x, n_samples) -> [N]: the model's own, or an `InputBaseline`."""
    custom = capability(model, "baseline")
    return custom(seed, name) if custom else InputBaseline(model.input_mean, seed, name=name)


def flat_rows(x: tf.Tensor) -> tf.Tensor:
    """Flatten [B, ...] to [B, D]."""
    return x if x.shape.rank == 2 else tf.reshape(x, [tf.shape(x)[0], -1])


def positive_scale(raw: Any) -> tf.Tensor:
    """Scale 2 sigmoid(raw) in (0, 2), initially 1 for raw = 0 (2017's parameterization)."""
    return 2 * tf.sigmoid(tf.convert_to_tensor(raw))


def differentiated_rollout(
    model: Model, x: tf.Tensor, sampler: Sampler, n_samples: int = 1
) -> tuple[Rollout, list]:
    """Roll the model out, and differentiate f with respect to the samples of each layer.

    The derivatives are total: through log q of the layers above, and for a differentiable sampler
    also through their samples; hard samples are constants.

    Args:
      model: see `rebar.types.Model`.
      x: [B, D].
      sampler: e.g. `samplers.hard(noise)` or `samplers.mean()`.
      n_samples: samples per example.

    Returns:
      The rollout, and df/db_l L x [N, H]; zeros where f does not depend on b_l.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def watched(layer, logits):
            sample = sampler(layer, logits)
            tape.watch(sample)
            return sample

        rollout = model.rollout(x, watched, n_samples)
    return rollout, gradient_or_zero(tape, rollout.objective, rollout.samples)


def active_layers(model: Model, n_layer: int) -> list[int]:
    """Return the layers for which gradients are needed."""
    active = capability(model, "active_layers")
    return list(range(n_layer)) if active is None else active


def require_two_samples(noise: Noise, name: str) -> None:
    """Raise RebarError unless there are two samples per example."""
    if noise.n_samples < 2:
        raise RebarError(
            f"n_samples={noise.n_samples}: must be at least 2 for {name}; set n_samples=2"
        )


def hard_rollout(model: Model, x: tf.Tensor, noise: Noise) -> Rollout:
    """Roll the model out at hard samples of q."""
    if shared := capability(model, "hard_rollout"):
        return shared(x, noise)
    return model.rollout(x, samplers.hard(noise), noise.n_samples)
