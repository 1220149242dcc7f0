"""Validation of values that may be known at run time only.

In eager mode, and for constants of a graph, an invalid value raises `RebarError`. In other graphs,
where XLA removes assertions, results computed from an invalid value are NaN.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from rebar.errors import RebarError, is_number


class Validity:
    """Conditions on the arguments of one call."""

    def __init__(self) -> None:
        self._conditions: list[tf.Tensor] = []

    def require(
        self, value: tf.Tensor, test: Callable[[Any], Any], message: Callable[[Any], str]
    ) -> None:
        """Test a value now, or at run time if it is not static.

        Args:
          value: value to test.
          test: array or tensor -> booleans.
          message: array -> text of the RebarError.
        """
        static = tf.get_static_value(value)
        valid = test(value if static is None else static)
        outcome = tf.get_static_value(valid) if tf.is_tensor(valid) else valid
        if outcome is None:
            self._conditions.append(tf.reduce_all(valid))
        elif not np.all(outcome):
            raise RebarError(message(static))

    def apply(self, value: tf.Tensor) -> tf.Tensor:
        """Return the value, or NaN everywhere if a condition is false at run time."""
        if not self._conditions:
            return value
        valid = tf.reduce_all(tf.stack(self._conditions))
        zero, nan = tf.zeros([], value.dtype), tf.constant(np.nan, value.dtype)
        return value + tf.where(valid, zero, nan)


def positive(value: Any, name: str) -> Any:
    """Return a number, tensor or variable that must be above 0 and finite.

    Raises:
      RebarError: the value is static and invalid; if it is not static, the result is NaN.
    """
    if value is None or isinstance(value, int | float | np.number | np.bool_ | str):
        if not is_number(value) or not 0 < value < math.inf:
            raise RebarError(f"{name}={value!r}: must be above 0 and finite; use e.g. {name}=0.5")
        return value
    validity, value = Validity(), tf.convert_to_tensor(value)
    validity.require(
        value,
        lambda v: (v > 0) & (v < np.inf),
        lambda v: f"{name}={np.min(v):g}: must be above 0 and finite",
    )
    return validity.apply(value)
