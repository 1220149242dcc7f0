"""Estimates at a frozen model: their noise, and control variates trained before a measurement."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from rebar import noise
from rebar.errors import RebarError
from rebar.estimators.base import Estimator, checked_estimate
from rebar.training import optimizers
from rebar.types import Model

FIT_RATE = 0.01
"""Adam's learning rate."""


def noise_keys(seed, *position: int) -> np.ndarray:
    """Keys [2, 2] of the main chain's noise and of its branches."""
    return np.stack([noise.key(seed, "variance", *position, i) for i in range(2)])


def drawing(model: Model, estimator: Estimator, n_samples: int) -> Callable:
    """The function of x and keys [2, 2] that draws noise and returns an `Estimate`."""

    def estimate(x, keys):
        draws = noise.latents(keys[0], n_samples, x.shape[0], model.n_units, x.dtype)
        if estimator.branches:
            draws = noise.with_branches(draws, keys[1])
        return checked_estimate(estimator, model, x, draws)

    return estimate


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
    optimizer = optimizers.adam(FIT_RATE, 0.999, variables)

    @tf.function(autograph=False)
    def step(keys):
        optimizer.apply(estimate(x, keys).control_gradients, variables)

    for i in range(steps):
        step(tf.constant(noise_keys(seed, i, 0, 0, 0)))
