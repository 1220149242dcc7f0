"""Statistical checks: the mean and the variance of an estimator."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar.core import gradients
from rebar.estimators.base import Estimator
from rebar.testing import comparison
from rebar.testing.comparison import Comparison, compare
from rebar.testing.problems import SMALL, Problem, draw, dtype_policy, flat, images, noise_keys
from rebar.testing.properties import Failure, require
from rebar.testing.subject import Subject

FIT_STEPS, FIT_RATE = 200, 0.01


def unbiased(
    subject: Subject,
    problem: Problem,
    settings: Mapping[str, Any],
    *,
    control: float = SMALL,
    trained: bool = False,
    more: int = 0,
    few_rows: bool = False,
    times: float = 1,
    seed: int = 0,
) -> Comparison:
    """Check that the mean over draws is the exact gradient, unless `unbiased` is False.

    A comparison that is too noisy is repeated once with four times the draws.
    """
    with dtype_policy("float64"):
        model = problem.model()
        estimator = subject.set_up(model, control, **settings)
        if trained:
            fit(subject, estimator, model)
        least = 1 if few_rows or estimator.objective == "elbo" else 2
        n_samples = subject.n_samples(estimator, least)
        if more:
            n_samples = subject.entry.n_samples(n_samples + more * estimator.samples_per_chain)
        result = compare(estimator, model, n_samples, few_rows=few_rows, times=times, seed=seed)
        if _too_noisy(estimator, result):
            result = compare(
                estimator, model, n_samples, few_rows=few_rows, times=4 * times, seed=seed
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


def fit(subject: Subject, estimator: Estimator, model: Any) -> None:
    """Train the learned parts for FIT_STEPS at the frozen model, from their initial values."""
    n_samples = subject.n_samples(estimator, 2)
    x = tf.constant(np.tile(images(comparison.IMAGES), [20, 1]), model.compute_dtype)
    variables = estimator.trainable_variables
    optimizer = keras.optimizers.Adam(FIT_RATE)
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step(keys):
        noise = draw(estimator, model, keys, n_samples, len(x), x.dtype)
        optimizer.apply(estimator.estimate(model, x, noise).control_gradients, variables)

    for i in range(FIT_STEPS):
        step(tf.constant(noise_keys(3, i)))


def efficiency(
    subject: Subject, problem: Problem, settings: Mapping[str, Any], seed: int = 0
) -> str:
    """Check that trained control variates do not increase the variance."""
    with dtype_policy("float64"):
        model = problem.model()
        estimator = subject.set_up(model, 0.0, **settings)
        initial = [v.numpy() for v in estimator.trainable_variables]
        fit(subject, estimator, model)
        n_samples = subject.n_samples(estimator, 2)
        x = images(comparison.IMAGES)
        truth = flat(comparison.exact_gradient(estimator, model, x, n_samples))

        def squares():
            values = comparison.estimates(estimator, model, x, n_samples, 100, seed)
            return np.sum(np.square(values - truth), axis=1)

        trained = squares()
        names = gradients.variable_names(estimator.trainable_variables)
        for name, v, start in zip(names, estimator.trainable_variables, initial, strict=True):
            if not estimator.control_off:
                v.assign(start)
            for part, value in estimator.control_off.items():
                if part in name:
                    v.assign(tf.fill(v.shape, tf.cast(value, v.dtype)))
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
