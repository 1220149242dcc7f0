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

    In training mode, each call draws new noise: a non-trainable weight counts the calls. In
    inference mode (`training=False`, as in `predict` and `evaluate`) the layer is deterministic and
    returns the most probable category.

    Args:
      method: a function of `rebar.straight_through`, e.g. "reinmax", "gumbel_rao" or "st", or the
        label of its estimator, e.g. "ReinMax".
      seed: an integer or several, e.g. (0, 1); layers of one model need different seeds.
      kl_weight: weight of KL(softmax(logits) || uniform), in nats per example, which is added to
        the model's loss.
      options: arguments of the method, e.g. {"temperature": 0.5}.

    Input and output: [B, ..., C] logits and one-hot samples. Under mixed precision, samples are
    drawn in float32.

    Raises:
      RebarError: an unknown method, an option that it does not take, an invalid kl_weight, or
        logits that are NaN or not [B, ..., C].
    """

    def __init__(
        self,
        method: str = "reinmax",
        seed: Any = 0,
        kl_weight: float = 0.0,
        options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        method = name_of(method)
        choose({name: METHODS[name] for name in LAYERS}, method, options or {})
        if not isinstance(kl_weight, int | float) or not 0 <= kl_weight < np.inf:
            raise RebarError(f"kl_weight={kl_weight!r}: must be a finite number, at least 0")
        self.method, self.seed, self.kl_weight = method, seed, kl_weight
        self.options = dict(options or {})
        # Raises for invalid options now, rather than in the first call.
        LAYERS[method](np.zeros([1, 2], np.float32), **self.options, seed=seed, step=0)
        self.calls = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="calls",
        )
        self.built = True

    def call(self, logits: tf.Tensor, training: bool = False) -> tf.Tensor:
        """[B, ..., C] logits -> [B, ..., C] one-hot."""
        inputs = logits if logits.dtype == tf.float64 else tf.cast(logits, tf.float32)
        inputs = logits_of(inputs, *FORMS["categorical"])
        validity = Validity()
        require_numbers(inputs, validity)
        inputs = validity.apply(inputs)
        if self.kl_weight:
            log_ratio = tf.nn.log_softmax(inputs) + np.log(inputs.shape[-1])
            divergences = tf.nn.softmax(inputs) * log_ratio
            rows = tf.reduce_sum(divergences, axis=list(range(1, inputs.shape.rank)))
            self.add_loss(self.kl_weight * tf.reduce_mean(rows))
        if training:
            step = tf.convert_to_tensor(self.calls)
            self.calls.assign_add(1)
            z = LAYERS[self.method](inputs, **self.options, seed=self.seed, step=step).z
        else:
            z = tf.one_hot(tf.argmax(inputs, axis=-1), inputs.shape[-1], dtype=inputs.dtype)
            z = validity.apply(z)
        return tf.cast(z, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("method", "seed", "kl_weight", "options")}
        return {**super().get_config(), **own}
