"""`rebar.tfp.fit_surrogate_posterior`: the optimum of every estimator, and its options."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import rebar
from tests.objectives.sampling import settings

tfd = tfp.distributions
TARGET = [2.0, -1.0]
ESTIMATORS = [s for s in settings(lambda e: e.unbiased and "bernoulli" in e.families) if s.first]


def target(b):
    return tfd.Bernoulli(TARGET).log_prob(b)


def fit(optimizer=None, num_steps=150, batch=False, **options):
    """Return the logits and what `fit_surrogate_posterior` returned."""
    logits = tf.Variable([0.0, 0.0])
    posterior = tfd.Bernoulli(logits)
    log_prob = target
    if not batch:
        posterior = tfd.Independent(posterior, 1)
        log_prob = lambda b: tf.reduce_sum(target(b), axis=-1)  # noqa: E731
    result = rebar.tfp.fit_surrogate_posterior(
        log_prob, posterior, optimizer or keras.optimizers.Adam(0.1), num_steps, **options
    )
    return logits.numpy(), result


@pytest.mark.parametrize("setting", ESTIMATORS, ids=str)
def test_every_unbiased_estimator_finds_the_optimum(setting):
    logits, losses = fit(estimator=setting.build("float32"), sample_size=20)
    np.testing.assert_allclose(logits, TARGET, atol=0.02)
    assert losses.shape == (150,)
    assert abs(losses[-1]) < 0.01 < losses[0]
