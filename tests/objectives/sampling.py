"""Estimates of `rebar.estimate` for every registered estimator, at the objectives of `problems`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import rebar
from rebar import registry
from rebar.testing import comparison
from rebar.testing.comparison import Comparison
from rebar.testing.problems import flat, perturb
from tests.objectives.problems import Problem

BATCHES, ROWS = 60, 6000
"""Least number of batches whose means are compared, and rows per batch."""
MOST_BATCHES = 1200
DETECTABLE, DETECTABLE_OF_TENSOR = 0.02, 0.05
"""Largest biases that may be missed, see `Sampling.compare`."""

FIT_STEPS, FIT_ROWS, FIT_RATE = 100, 300, 0.02
CONTROLS = ("initial", "random", "trained")
"""Control variates at their initial values, with N(0, 1) added, and after FIT_STEPS of Adam."""


class Setting(NamedTuple):
    """An estimator and constructor arguments.

    Attributes:
      label: its name.
      arguments: of its class.
      n_samples: least number of samples per example.
    """

    label: str
    arguments: Mapping[str, Any]
    n_samples: int = 1

    def __str__(self) -> str:
        return "-".join([self.label, *(f"{k}={v}" for k, v in self.arguments.items())])

    def build(self, dtype: str = "float64") -> Any:
        """Return a new estimator."""
        return rebar.estimator(self.label, dtype=dtype, **self.arguments)

    @property
    def first(self) -> bool:
        """Return True for the first setting of its estimator."""
        return self.arguments == type(self.build()).verified[0]


def settings(wanted: Callable[[Any], bool]) -> Iterator[Setting]:
    """Every registered estimator that is wanted, in all settings that `rebar.testing` verifies."""
    names = {**registry.labels("categorical"), **registry.labels("binary")}
    for label, name in names.items():
        for arguments in registry.target(name).verified:
            estimator = Setting(label, arguments).build()
            chains = 2 if estimator.objective == "bound" else 1
            n_samples = registry.entry(name).n_samples(chains * estimator.samples_per_chain)
            if wanted(estimator):
                yield Setting(label, arguments, n_samples)


class Sampling:
    """Gradients of `rebar.estimate` at a problem, traced once for all batch sizes.

    Args:
      problem: see `Problem`.
      setting: see `Setting`.
    """

    def __init__(self, problem: Problem, setting: Setting):
        self._problem, self._estimator = problem, setting.build()
        self._n_samples = setting.n_samples
        self._baseline = problem.baseline()
        self._variables = list(problem.variables.values())
        shapes = [tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in problem.args]
        signature = [tf.TensorSpec([], tf.int32), *shapes]
        self._call = tf.function(self._gradient, autograph=False, input_signature=signature)
        self._estimate(0, *problem.args)  # creates the variables, else `_call` is traced twice
        self._initial = [v.numpy() for v in self._estimator.trainable_variables]

    @property
    def learns(self) -> bool:
        """Return True if there are control variates."""
        return bool(self._initial)

    def _estimate(self, step, *args):
        return rebar.estimate(
            self._problem.objective,
            *args,
            estimator=self._estimator,
            n_samples=self._n_samples,
            seed=0,
            step=step,
            baseline=self._baseline,
        )

    def _gradient(self, step, *args):
        with tf.GradientTape() as tape:
            loss = self._estimate(step, *args).loss
        return flat_tensor(tape.gradient(loss, self._variables))

    def _tiled(self, rows):
        copies = rows // self._n_samples // len(self._problem.args[0])
        return [tf.tile(a, [copies, *[1] * (a.shape.rank - 1)]) for a in self._problem.args]

    def set_control(self, control: str) -> None:
        """Give the control variates one of the states in CONTROLS."""
        variables = self._estimator.trainable_variables
        for v, value in zip(variables, self._initial, strict=True):
            v.assign(value)
        if control == "random":
            perturb(variables, 2, 1.0)
        if control == "trained":
            self.fit()

    def fit(self) -> None:
        """Minimize the control loss by FIT_STEPS of Adam."""
        variables = self._estimator.trainable_variables
        optimizer = keras.optimizers.Adam(FIT_RATE)
        optimizer.build(variables)
        args = self._tiled(FIT_ROWS)

        @tf.function(autograph=False)
        def train(step):
            with tf.GradientTape() as tape:
                loss = self._estimate(step, *args).control_loss
            optimizer.apply(tape.gradient(loss, variables))

        for step in tf.range(FIT_STEPS):
            train(step)

    def encoder_variance(self) -> float:
        """Variance of the gradient with respect to the first variable, of a few small batches."""
        values = self.estimates(0, BATCHES, FIT_ROWS)[:, : tf.size(self._variables[0])]
        return float(np.sum(np.var(values, axis=0)))

    def compare(self, batches: int = 0) -> Comparison:
        """Compare the mean of estimates with the exact gradient.

        The number of batches, if not given, grows until the smallest bias that is detected, see
        `rebar.testing.comparison`, is DETECTABLE of the norm of the gradient and, in each tensor,
        DETECTABLE_OF_TENSOR of that of its own gradient. This depends on the spread of the
        estimates alone, which is independent of their mean for means over many rows.
        """
        exact = self._problem.exact(self._estimator.objective == "bound")
        names = list(self._problem.variables)
        values = self.estimates(0, batches or BATCHES)
        while True:
            rows = len(values) * ROWS
            result = comparison.summarize(values, exact, names, rows)
            total = comparison.summarize(values, [flat(exact)], ["all"], rows)
            excess = max(total.detectable / DETECTABLE, result.detectable / DETECTABLE_OF_TENSOR)
            if batches or excess <= 1 or len(values) >= MOST_BATCHES:
                return result._replace(detectable=total.detectable)
            wanted = min(MOST_BATCHES, int(1.1 * excess**2 * len(values)) + 1)
            values = np.concatenate([values, self.estimates(len(values), wanted)])

    def estimates(self, start: int, stop: int, rows: int = ROWS) -> np.ndarray:
        """Return gradients [batches, P] of a range of steps, each the mean over some rows."""
        args = self._tiled(rows)
        return np.stack([self._call(1000 + i, *args) for i in range(start, stop)])


def flat_tensor(tensors) -> tf.Tensor:
    """Concatenate all components in a graph."""
    return tf.concat([tf.reshape(g, [-1]) for g in tensors], axis=0)
