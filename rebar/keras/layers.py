"""`rebar.keras.StraightThrough`."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar.core.validity import Validity
from rebar.errors import RebarError
from rebar.functional.arguments import FORMS, logits_of, require_numbers
from rebar.functional.methods import METHODS, choose, name_of
from rebar.functional.straight_through import LAYERS


@keras.saving.register_keras_serializable("rebar")
class StraightThrough(keras.layers.Layer):
    """Sample one-hot vectors from logits, with a straight-through gradient.

    In training mode, each call draws new noise: a non-trainable weight counts the calls.

    Args:
      method: a function of `rebar.straight_through`, e.g. "reinmax", "gumbel_rao" or "st", or the
        label of its estimator, e.g. "ReinMax".
      seed: an integer or several, e.g. (0, 1); layers of one model need different seeds.
      kl_weight: weight of KL(q || uniform), in nats per example, which is added to the model's
        loss; q is `probs` of the method, which samples of redge and reindge do not follow.
      options: arguments of the method, e.g. {"temperature": 0.5}.
      inference: result in inference mode (`training=False`, as in `predict` and `evaluate`):
        "mode", the most probable category, or "sample", new samples in every call.

    kl_weight, the temperature and other numbers in `options` may also be a schedule of
    `keras.optimizers.schedules`, a function of the number of training calls; or a scalar variable
    that is not trainable, which a callback may change. All of them are saved with the layer.

    Input and output: [B, ..., C] logits and one-hot samples. Under mixed precision, samples are
    drawn in float32.

    Raises:
      RebarError: an unknown method, an option that it does not have, an invalid kl_weight or
        inference, a trainable variable, or logits that are NaN or not [B, ..., C].
    """

    def __init__(
        self,
        method: str = "reinmax",
        seed: Any = 0,
        kl_weight: Any = 0.0,
        options: dict[str, Any] | None = None,
        inference: str = "mode",
        **kwargs: Any,
    ) -> None:
        method = name_of(method)
        if not isinstance(options, dict | None):
            raise RebarError(
                f"options={options!r}: must be a dictionary, e.g. {{'temperature': 0.5}}"
            )
        chosen = choose({name: METHODS[name] for name in LAYERS}, method, options or {})
        for name in chosen.defaults.keys() & kwargs.keys():
            raise RebarError(f"{name}: an option of {method}; pass options={{{name!r}: ...}}")
        super().__init__(**kwargs)
        if inference not in ("mode", "sample"):
            raise RebarError(f"inference={inference!r}: choose from 'mode', 'sample'")
        for name, value in {"kl_weight": kl_weight, **(options or {})}.items():
            if isinstance(value, keras.Variable) and value.trainable:
                raise RebarError(
                    f"{name}: a trainable variable; the gradient does not update it, so create it "
                    "with trainable=False"
                )
        if not isinstance(kl_weight, _CHANGING) and (
            not isinstance(kl_weight, int | float) or not 0 <= kl_weight < np.inf
        ):
            raise RebarError(f"kl_weight={kl_weight!r}: must be a finite number, at least 0")
        self.method, self.seed, self.kl_weight = method, seed, kl_weight
        self.options, self.inference = dict(options or {}), inference
        # Raises for invalid options now, rather than in the first call.
        self._sample(np.zeros([1, 2], np.float32), 0, 0)
        self.calls = self._counter("calls")
        if inference == "sample":
            self.inference_calls = self._counter("inference_calls")
        self.built = True

    def call(self, logits: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return one-hot samples of logits, [B, ..., C] -> [B, ..., C]."""
        inputs = logits if logits.dtype == tf.float64 else tf.cast(logits, tf.float32)
        inputs = logits_of(inputs, *FORMS["categorical"])
        validity = Validity()
        require_numbers(inputs, validity)
        inputs = validity.apply(inputs)
        calls = tf.convert_to_tensor(self.calls)
        if isinstance(self.kl_weight, _CHANGING) or self.kl_weight:
            temperature = _at(self.options.get("forward_temperature", 1.0), calls)
            log_q = tf.nn.log_softmax(inputs / tf.cast(temperature, inputs.dtype))
            divergences = tf.exp(log_q) * (log_q + np.log(inputs.shape[-1]))
            rows = tf.reduce_sum(divergences, axis=list(range(1, inputs.shape.rank)))
            weight = tf.cast(_at(self.kl_weight, calls), rows.dtype)
            self.add_loss(weight * tf.reduce_mean(rows))
        if training:
            self.calls.assign_add(1)
            z = self._sample(inputs, calls, calls)
        elif self.inference == "sample":
            self.inference_calls.assign_add(1)
            z = self._sample(inputs, -tf.convert_to_tensor(self.inference_calls), calls)
        else:
            z = tf.one_hot(tf.argmax(inputs, axis=-1), inputs.shape[-1], dtype=inputs.dtype)
            z = validity.apply(z)
        return tf.cast(z, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {name: getattr(self, name) for name in ("method", "seed", "inference")}
        config["kl_weight"] = _to_config(self.kl_weight)
        config["options"] = {name: _to_config(value) for name, value in self.options.items()}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "StraightThrough":
        options = {name: _from_config(value) for name, value in config["options"].items()}
        kl_weight = _from_config(config["kl_weight"])
        return cls(**{**config, "options": options, "kl_weight": kl_weight})

    def _sample(self, inputs, step, calls):
        """Sample with the noise of a step and the options after a number of training calls."""
        options = {name: _at(value, calls) for name, value in self.options.items()}
        return LAYERS[self.method](inputs, **options, seed=self.seed, step=step).z

    def _counter(self, name):
        return self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name=name,
        )


_Schedule = keras.optimizers.schedules.LearningRateSchedule
_CHANGING = (_Schedule, keras.Variable, tf.Variable)


def _at(value, calls):
    """Return the number or tensor of a number, schedule or variable after some calls."""
    if isinstance(value, _Schedule):
        return value(calls)
    return tf.convert_to_tensor(value) if isinstance(value, _CHANGING) else value


def _to_config(value):
    if isinstance(value, _Schedule):
        return keras.saving.serialize_keras_object(value)
    if isinstance(value, _CHANGING):
        return {"variable": float(tf.convert_to_tensor(value))}
    return value


def _from_config(config):
    if not isinstance(config, dict):
        return config
    if "variable" in config:
        return keras.Variable(config["variable"], trainable=False, dtype="float32")
    return keras.saving.deserialize_keras_object(config)
