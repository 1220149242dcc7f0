"""Control variates trained at a frozen model, before a measurement."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from rebar.analysis.meter import drawing, noise_keys
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.types import Model

FIT_RATE = 0.01
"""Adam's learning rate."""


@contextlib.contextmanager
def fitted(
    model: Model, estimators: Sequence[Estimator], n_samples: int, x, steps: int, seed=0
) -> Iterator[None]:
    """Train control variates at the frozen model and one batch; restore them on exit.

    Args:
      model, estimators: set up; the model is not changed.
      n_samples: samples per example.
      x: [B, D] in {0, 1}.
      steps: of Adam with the learning rate FIT_RATE; 0 changes nothing.
      seed: non-negative integer or several.

    Raises:
      RebarError: a negative number of steps.
    """
    if steps < 0:
        raise RebarError(f"fit_steps={steps}: must be at least 0; give e.g. fit_steps=200")
    learning = [e for e in estimators if e.trainable_variables and steps]
    saved = [(v, v.numpy()) for e in learning for v in e.trainable_variables]
    x = tf.cast(x, model.compute_dtype)
    try:
        for estimator in learning:
            _fit(
                drawing(model, estimator, n_samples), estimator.trainable_variables, x, steps, seed
            )
        yield
    finally:
        for v, value in saved:
            v.assign(value)


def _fit(estimate, variables, x, steps, seed):
    optimizer = keras.optimizers.Adam(FIT_RATE)
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step(keys):
        optimizer.apply(estimate(x, keys).control_gradients, variables)

    for i in range(steps):
        step(tf.constant(noise_keys(seed, "variance", i, 0, 0, 0)))
