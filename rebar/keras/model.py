"""`rebar.keras.Model`."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar.core import bounds
from rebar.errors import RebarError, integer
from rebar.estimators.base import CONTROL_RATE, Estimator
from rebar.keras import batches, serialization
from rebar.objectives import estimate as objectives

_VARIANCE = 1
"""Last word of the seed of `gradient_meter`."""


@dataclasses.dataclass
class _Compiled:
    """Result of `Model.compile`, in an object that Keras does not track.

    The model's optimizer must not update the estimator's learned parts.

    Attributes:
      argument: argument `estimator`.
      arguments: other arguments that Keras' compile does not have.
      estimator: instance of `argument`.
      optimizer: optimizer of the estimator's learned parts.
    """

    argument: Any
    arguments: dict[str, Any]
    estimator: Estimator
    optimizer: keras.optimizers.Optimizer


class Model(keras.Model):
    """Keras model that maximizes an objective with discrete sample sites.

    Subclasses implement `objective`:

        class VAE(rebar.keras.Model):
            def objective(self, sample, x):
                b = sample.bernoulli("b", self.encoder(x))
                return log_joint(x, b) - sample.log_q

        model = VAE()
        model.compile("adam", estimator="DisARM", jit_compile=True)
        model.fit(images)

    `fit` and `evaluate` report the mean of the objective as "elbo", or "bound" if the estimator
    follows the multi-sample bound, and "loss", minus that plus the losses of layers, e.g. by weight
    regularizers; training reports "temperature" if the estimator learns one.

    The model is saved with the estimator's learned parts, both optimizers and the number of steps,
    which determines the noise: a loaded model continues exactly like the saved one.
    """

    fit = batches.without_weights(keras.Model.fit)
    evaluate = batches.without_weights(keras.Model.evaluate)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Let `get_config` return the arguments, as for layers; `keras.Model` discards them."""
        return keras.layers.Layer.__new__(cls, *args, **kwargs)

    def __init__(self, **kwargs: Any) -> None:
        if "inputs" in kwargs or "outputs" in kwargs:  # Keras would change the bases of all models
            raise RebarError(
                f"{type(self).__name__}(inputs=..., outputs=...): unsupported; create functional "
                "models in __init__, and call them in objective"
            )
        super().__init__(**kwargs)
        self._steps = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="steps",
        )
        self._elbo = keras.metrics.Mean("elbo")
        self._bound = keras.metrics.Mean("bound")
        self._training: _Compiled | None = None
        self._specs: Any = None

    def objective(self, sample: Any, *args: Any) -> tf.Tensor:
        """Return the function to maximize, [N] for N rows; see `rebar.estimate`.

        Args:
          sample: see `rebar.objectives.sample.Sample`.
          *args: x, or x and y, as passed to `fit`, with one row per example and sample.
        """
        raise NotImplementedError

    @property
    def estimator(self) -> Estimator:
        """The estimator; Keras saves its learned parts, as those of all attributes."""
        return self._compiled().estimator

    @property
    def control_optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer of the estimator's learned parts."""
        return self._compiled().optimizer

    def compile(  # type: ignore[override]
        self,
        optimizer: Any,
        estimator: Any = None,
        n_samples: int = 1,
        eval_samples: int = 1,
        control_optimizer: Any = None,
        seed: Any = 0,
        **kwargs: Any,
    ) -> None:
        """Configure training.

        Args:
          optimizer: Keras optimizer of the model, or its name.
          estimator: name, instance, or mapping from sites to either, as in `rebar.estimate`.
          n_samples: samples per example in training.
          eval_samples: samples per example in `evaluate`; with several it also reports their
            multi-sample bound, "bound".
          control_optimizer: Keras optimizer of the estimator's learned parts; by default Adam at
            ten times the current learning rate of `optimizer`.
          seed: integer or several, which determine the noise.
          **kwargs: further arguments of Keras' compile, e.g. jit_compile, run_eagerly or metrics,
            which compare y with the result of `call`.

        Raises:
          RebarError: no or an unknown estimator, no method `objective`, an invalid number of
            samples, or a loss.
        """
        name = type(self).__name__
        if type(self).objective is Model.objective:
            raise RebarError(f"{name}: has no objective; define objective(self, sample, x) -> [N]")
        if estimator is None:
            raise RebarError(
                f"estimator of {name}: missing; use e.g. compile(optimizer, estimator='DisARM') "
                "for Bernoulli sites, or compile(optimizer, estimator='LOO', n_samples=4) for all"
            )
        for argument in ("loss", "loss_weights"):
            if kwargs.get(argument) is not None:
                raise RebarError(f"{argument}: the loss is minus the objective; remove {argument}")
        n_samples = integer(n_samples, "n_samples")
        eval_samples = integer(eval_samples, "eval_samples")
        optimizer = keras.optimizers.get(optimizer)
        if control_optimizer is None:
            rate = float(tf.convert_to_tensor(optimizer.learning_rate))
            control_optimizer = keras.optimizers.Adam(CONTROL_RATE * rate)
        super().compile(optimizer=optimizer, **kwargs)
        self._training = _Compiled(
            estimator,
            {
                "n_samples": n_samples,
                "eval_samples": eval_samples,
                "control_optimizer": control_optimizer,
                "seed": seed,
            },
            objectives.built(estimator, dtype=self.variable_dtype),
            keras.optimizers.get(control_optimizer),
        )

    def train_step(self, data: Any) -> dict[str, Any]:
        """Estimate the gradients for a batch, and update the model and the estimator."""
        training = self._compiled()
        step = tf.convert_to_tensor(self._steps)
        self._steps.assign_add(1)
        with tf.GradientTape() as tape:
            estimate = objectives.estimate(
                self.objective,
                *self._arguments(data),
                estimator=training.estimator,
                n_samples=training.arguments["n_samples"],
                seed=training.arguments["seed"],
                step=step,
            )
            losses = sum(self.losses)
            loss = self.optimizer.scale_loss(_of_replica(estimate.loss + losses))
            learned = training.estimator.trainable_variables
            if learned:
                loss += _of_replica(estimate.control_loss)
        variables = self.trainable_variables
        gradients = tape.gradient(loss, [*variables, *learned])
        self.optimizer.apply(gradients[: len(variables)], variables)
        if learned:
            training.optimizer.apply(gradients[len(variables) :], learned)
        logs = {n: v for n, v in estimate.metrics.items() if n.startswith("temperature")}
        name = "bound" if training.estimator.objective == "bound" else "elbo"
        return self._logs(data, losses, **{name: estimate.value}) | logs

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluate the objective for a batch, at samples that depend on its position."""
        arguments = self._compiled().arguments
        f = objectives.values(
            self.objective,
            *self._arguments(data),
            n_samples=arguments["eval_samples"],
            seed=arguments["seed"],
            step=tf.cast(self._elbo.count, tf.int32),
        )
        values = {"elbo": tf.reduce_mean(f, axis=0)}
        if arguments["eval_samples"] > 1:
            values["bound"] = bounds.multi_sample(f)
        return self._logs(data, sum(self.losses), **values)

    def create_variables(self, *arguments: Any) -> None:
        """Create the variables of the model, the estimator and the optimizers before training.

        Training calls this itself. Call it before using callbacks that restore weights, such as
        BackupAndRestore.

        Args:
          *arguments: arguments of the objective, of which only types and shapes are used.
        """
        self._set_specs(tf.nest.map_structure(tf.convert_to_tensor, arguments))
        self._create_variables()

    def gradient_meter(self, arguments: tuple) -> Any:
        """Return the `rebar.analysis.objective_meter.ObjectiveMeter` of the model's gradient.

        Args:
          arguments: arguments of the objective, with fixed values.
        """
        from rebar.analysis.objective_meter import ObjectiveMeter

        training = self._compiled()
        return ObjectiveMeter(
            self.objective,
            arguments,
            training.estimator,
            self.trainable_variables,
            training.arguments["n_samples"],
            [*np.atleast_1d(training.arguments["seed"]).tolist(), _VARIANCE],
            jit=self.jit_compile,
        )

    def get_compile_config(self) -> dict[str, Any]:
        """Return the arguments of `compile`, serialized.

        Raises:
          RebarError: the estimator cannot be serialized.
        """
        config = super().get_compile_config()
        if self._training is None:
            return config
        arguments = keras.saving.serialize_keras_object(self._training.arguments)
        estimator = serialization.to_config(self._training.argument)
        return config | arguments | {"estimator": estimator, "trained": self.optimizer.built}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile a loaded or cloned model, and create the variables of its training."""
        arguments = keras.saving.deserialize_keras_object(config)
        trained = arguments.pop("trained")
        estimator = serialization.from_config(arguments.pop("estimator"))
        self.compile(estimator=estimator, **arguments)
        if trained and self._specs is not None:
            self._create_variables()

    def get_build_config(self) -> dict[str, Any] | None:
        """Return the types of the objective's arguments, once it has been called."""
        config = super().get_build_config()
        if self._specs is None:
            return config
        return (config or {}) | {"arguments": keras.saving.serialize_keras_object(self._specs)}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Create the variables of a loaded model."""
        specs = config.pop("arguments", None)
        if config:  # `call` has built the model as well
            super().build_from_config(config)
        if specs is not None:
            specs = keras.saving.deserialize_keras_object(specs)
            objectives.values(self.objective, *_zeros(specs), seed=0, step=0)
            self._set_specs(specs)

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Create all variables before the first step; Keras calls this under a strategy."""
        if self._compile_metrics is not None:
            super()._symbolic_build(iterator, data_batch)
        self.create_variables(*self._arguments(data_batch))

    def _create_variables(self):
        """Create the variables of training, from arguments of the recorded types."""
        arguments, n_samples = _zeros(self._specs), self._compiled().arguments["n_samples"]
        objectives.values(self.objective, *arguments, seed=0, step=0)
        objectives.prepare(
            self.objective, *arguments, estimator=self.estimator, n_samples=n_samples
        )
        self.optimizer.build(self.trainable_variables)
        self.control_optimizer.build(self.estimator.trainable_variables)

    def _set_specs(self, arguments):
        """Record the types of the objective's arguments, which has created the variables."""
        self._specs = tf.nest.map_structure(
            lambda value: keras.KerasTensor([None, *value.shape[1:]], value.dtype), list(arguments)
        )
        self.built = True

    def _arguments(self, data):
        """Return the arguments of the objective for a batch of Keras."""
        return batches.arguments_of(self.objective, data, type(self).__name__)

    def _compiled(self):
        if self._training is None:
            raise RebarError(f"{type(self).__name__}: not compiled; call compile() first")
        return self._training

    def _logs(self, data, losses, **values):
        """Update metrics with values [B], and return their results; the first gives the loss."""
        self._set_specs(self._arguments(data))
        self._loss_tracker.update_state(losses - next(iter(values.values())))
        of_name = {"elbo": self._elbo, "bound": self._bound}
        for name, value in values.items():
            of_name[name].update_state(value)
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        prediction = None if self._compile_metrics is None else self(x, training=False)
        logs = self.compute_metrics(x, y, prediction)
        return {name: v for name, v in logs.items() if name in values or name not in of_name}


def _zeros(specs):
    """Return arguments of some types, with two rows."""
    return tf.nest.map_structure(
        lambda spec: tf.zeros([2, *(size or 1 for size in spec.shape[1:])], spec.dtype), specs
    )


def _of_replica(loss):
    """Return the loss of a replica, whose gradients are summed over replicas."""
    return loss / tf.distribute.get_strategy().num_replicas_in_sync
