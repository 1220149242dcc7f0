"""Statistical checks: the mean and the variance of an estimator."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar.core import gradients
from rebar.estimators.base import Estimator
from rebar.testing import comparison
from rebar.testing.comparison import Comparison, Sampling
from rebar.testing.problems import (
    SMALL,
    Problem,
    draw,
    dtype_policy,
    flat,
    images,
    noise_keys,
    perturb,
)
from rebar.testing.properties import Failure, require
from rebar.testing.subject import Subject

FIT_STEPS, FIT_RATE = 200, 0.01


class Case:
    """An estimator at a problem, whose learned weights can be set; graphs are traced once.

    Args:
      subject: see `Subject`.
      problem: model.
      settings: constructor arguments.
    """

    def __init__(self, subject: Subject, problem: Problem, settings: Mapping[str, Any]):
        self._subject = subject
        with dtype_policy("float64"):
            self.model = problem.model()
            self.estimator = subject.set_up(self.model, 0.0, **settings)
        self._initial = [v.numpy() for v in self.estimator.trainable_variables]
        self._trained: list = []
        self._samplings: dict = {}

    def sampling(self, more: int = 0, few_rows: bool = False) -> Sampling:
        """Return the estimates for the smallest number of samples, or for `more` of them."""
        if (more, few_rows) not in self._samplings:
            estimator = self.estimator
            least = 1 if few_rows or estimator.objective == "elbo" else 2
            n_samples = self._subject.n_samples(estimator, least)
            if more:
                n_samples += more * estimator.samples_per_chain
                n_samples = self._subject.entry.n_samples(n_samples)
            self._samplings[more, few_rows] = Sampling(estimator, self.model, n_samples, few_rows)
        return self._samplings[more, few_rows]

    def set_control(self, control: float | None) -> None:
        """Set the learned weights: a deviation from their initial values, or None: trained."""
        variables = self.estimator.trainable_variables
        for v, value in zip(variables, self._initial, strict=True):
            v.assign(value)
        if control is not None:
            perturb(variables, 2, control)
        elif self._trained:
            for v, value in zip(variables, self._trained, strict=True):
                v.assign(value)
        else:
            self._fit()
            self._trained = [v.numpy() for v in variables]

    def switch_off(self) -> None:
        """Give the weights named by `control_off` their values, or all their initial ones."""
        variables, off = self.estimator.trainable_variables, self.estimator.control_off
        names = gradients.variable_names(variables)
        for name, v, initial in zip(names, variables, self._initial, strict=True):
            if not off:
                v.assign(initial)
            for part, value in off.items():
                if part in name:
                    v.assign(np.full(v.shape, value))

    def _fit(self):
        """Train the learned parts for FIT_STEPS at the frozen model."""
        estimator, model = self.estimator, self.model
        n_samples = self._subject.n_samples(estimator, 2)
        x = tf.constant(np.tile(images(comparison.IMAGES), [20, 1]), model.compute_dtype)
        variables = estimator.trainable_variables
        optimizer = keras.optimizers.Adam(FIT_RATE)
        optimizer.build(variables)

        keys = tf.constant(np.stack([noise_keys(3, i) for i in range(FIT_STEPS)]))

        def step(i):
            noise = draw(estimator, model, keys[i], n_samples, len(x), x.dtype)
            optimizer.apply(estimator.estimate(model, x, noise).control_gradients, variables)
            return (i + 1,)

        @tf.function(autograph=False)
        def fit():
            tf.while_loop(lambda i: i < FIT_STEPS, step, [0], parallel_iterations=1)

        fit()


def unbiased(
    case: Callable[[], Case],
    *,
    control: float | None = SMALL,
    more: int = 0,
    few_rows: bool = False,
    times: float = 1,
    seed: int = 0,
) -> Comparison:
    """Check that the mean over draws is the exact gradient, unless `unbiased` is False.

    A comparison that is too noisy is repeated once with as many draws as it needs, at most eight
    times as many.

    Args:
      case: function that returns the case.
      control: see `Case.set_control`.
      more, few_rows: see `Case.sampling`.
      times: factor of the number of draws.
      seed: seed of the draws.

    Raises:
      Failure: biased, or too noisy.
    """
    with dtype_policy("float64"):
        estimator = case().estimator
        case().set_control(control)
        sampling = case().sampling(more, few_rows)
        result = sampling.compare(times, seed)
        if _too_noisy(estimator, result):
            shortage = result.detectable / comparison.LARGEST_UNSEEN_BIAS
            result = sampling.compare(min(8, 1.5 * shortage**2) * times, seed)
    if not np.isfinite(result.z):
        raise Failure(
            f"non-finite gradient of {result.worst} with n_samples={sampling.n_samples}; return "
            "finite gradients, or declare what it needs, e.g. min_samples=2",
            result,
        )
    if estimator.unbiased and result.biased:
        raise Failure(
            f"biased at {result.worst}: {result.z:.1f} standard errors; the deviation is "
            f"{result.bias:.1%} of the gradient",
            result,
        )
    if _too_noisy(estimator, result):
        raise Failure(
            f"too noisy: a bias of {comparison.LARGEST_UNSEEN_BIAS:.0%} of the gradient could be "
            "missed; reduce the variance, or take more draws with thorough=True (--thorough)",
            result,
        )
    return result


def _too_noisy(estimator: Estimator, result: Comparison) -> bool:
    unseen = result.detectable >= comparison.LARGEST_UNSEEN_BIAS
    return estimator.unbiased and not result.biased and unseen


def efficiency(case: Callable[[], Case], seed: int = 0) -> str:
    """Check that trained control variates do not increase the variance.

    Raises:
      Failure: they do.
    """
    with dtype_policy("float64"):
        sampling = case().sampling()
        truth = flat(sampling.exact)

        def squares():
            return np.sum(np.square(sampling.estimates(100, seed) - truth), axis=1)

        case().set_control(None)
        trained = squares()
        case().switch_off()
        off = squares()
    excess = trained - off
    z = excess.mean() / (excess.std(ddof=1) / np.sqrt(len(excess)) + 1e-30)
    ratio = trained.mean() / off.mean()
    require(
        z < 5,
        f"the variance with trained control variates is {ratio:.2f} times that without them "
        f"(z {z:.1f})",
    )
    return f"variance {ratio:.2f} of that without control variates"
