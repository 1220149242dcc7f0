"""Conditions on values that may be known at run time only: an error if possible, else NaN.

In eager mode, and for constants of a graph, an invalid value raises `RebarError`. In a graph it
cannot, and XLA removes assertions, so what is computed from an invalid value is made NaN instead of
a plausible wrong number.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from rebar.errors import RebarError


class Validity:
    """Collects the conditions on the arguments of one call."""

    def __init__(self) -> None:
        self._conditions: list[tf.Tensor] = []

    def require(
        self, value: tf.Tensor, test: Callable[[Any], Any], message: Callable[[Any], str]
    ) -> None:
        """Raise RebarError with `message(value)` if a known value fails a test, else test it later.

        Args:
          value: to be tested.
          test: array or tensor -> booleans.
          message: array -> the error's text.
        """
        known = tf.get_static_value(value)
        valid = test(value if known is None else known)
        outcome = tf.get_static_value(valid) if tf.is_tensor(valid) else valid
        if outcome is None:
            self._conditions.append(tf.reduce_all(valid))
        elif not np.all(outcome):
            raise RebarError(message(known))

    def apply(self, value: tf.Tensor) -> tf.Tensor:
        """The value, or NaN throughout if a condition is false at run time."""
        if not self._conditions:
            return value
        valid = tf.reduce_all(tf.stack(self._conditions))
        zero, nan = tf.zeros([], value.dtype), tf.constant(np.nan, value.dtype)
        return value + tf.where(valid, zero, nan)


def positive(value: Any, name: str) -> Any:
    """A number, or a tensor or variable of any shape, that is above 0 and finite.

    Raises:
      RebarError: it is not, and that is known; otherwise the result is NaN.
    """
    if isinstance(value, int | float | np.number):
        if not 0 < value < math.inf:
            raise RebarError(f"{name}={value!r}: must be above 0 and finite; give e.g. {name}=0.5")
        return value
    validity, value = Validity(), tf.convert_to_tensor(value)
    validity.require(
        value,
        lambda v: (v > 0) & (v < np.inf),
        lambda v: f"{name}={np.min(v):g}: must be above 0 and finite",
    )
    return validity.apply(value)
