"""`rebar.keras.GradientVariance`."""

from typing import Any

import keras
import numpy as np

from rebar.errors import RebarError, integer
from rebar.keras.model import Model


class GradientVariance(keras.callbacks.Callback):
    """Log the variance of the gradient estimate after every epoch as "gradient_variance".

    This is the conditional variance, for fixed parameters and a fixed batch, summed over the
    components of the gradient with respect to all trainable variables. Its relative
    standard error is about sqrt(2 / draws) or less. Training does not depend on the measurement.

    Use `rebar.compare_estimators` for standard errors, bias and several estimators.

    Args:
      x: batch of inputs of the objective, an array or a structure of arrays.
      y: targets, if the objective has them.
      draws: estimates per measurement, at least 4; each costs as much as a training step.
    """

    def __init__(self, x: Any, y: Any = None, draws: int = 20) -> None:
        super().__init__()
        self.arguments = (x,) if y is None else (x, y)
        self.draws = integer(draws, "draws", 4)
        self._meter: Any = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not isinstance(self.model, Model):
            raise RebarError(
                f"GradientVariance with a {type(self.model).__name__}: the model must be a "
                "rebar.keras.Model"
            )
        self._meter = None  # variables, estimator or seed may have changed

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._meter is None:
            self._meter = self.model.gradient_meter(self.arguments)
        _, _, variance = self._meter(self.draws, 2).moments()
        if logs is not None:
            logs["gradient_variance"] = float(np.sum(variance[self._meter.parts["total"]]))
