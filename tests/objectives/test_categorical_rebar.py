"""Variance of REBAR at one categorical variable, with the relaxation softmax((logits + z) / T)."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar

ROWS, CALLS = 100_000, 10
TOLERANCE = 0.015
"""Tolerance of the variance, whose standard error over a million rows is at most 0.4 %."""

GENERATOR = np.random.default_rng(1)
LOGITS = GENERATOR.normal(size=(1, 4))
W, C = GENERATOR.normal(size=(4, 6)), GENERATOR.normal(size=6)


class Zero(keras.layers.Layer):
    """No baseline."""

    def call(self, logits):
        return tf.zeros_like(logits[:, 0])


def objective(sample, logits):
    return tf.reduce_sum(C * tf.tanh(sample.categorical("y", logits) @ W), axis=-1)


def total_variance(name, **options):
    """Sum over components of the variance of the gradient per row, and its relative error."""
    estimator = rebar.estimator(name, dtype="float64", **options)
    logits = tf.constant(np.repeat(LOGITS, ROWS, axis=0))

    @tf.function(autograph=False)
    def gradient(step):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            estimate = rebar.estimate(
                objective, logits, estimator=estimator, seed=0, step=step, baseline=Zero()
            )
        return tape.gradient(estimate.loss, logits) * ROWS

    g = np.concatenate([gradient(tf.constant(i)) for i in range(CALLS)])
    squares = np.sum(np.square(g - g.mean(axis=0)), axis=1)
    error = np.std(squares) / np.mean(squares) / np.sqrt(len(squares))
    return np.mean(squares), error


def test_reinforce():
    """Without a baseline, for which the sum over states is short, and which has eta = 0."""
    pi = np.exp(LOGITS[0]) / np.sum(np.exp(LOGITS))
    f = np.tanh(W) @ C
    g = f[:, np.newaxis] * (np.eye(4) - pi)
    exact = pi @ np.sum(np.square(g), axis=1) - np.sum(np.square(pi @ g))
    assert exact == pytest.approx(0.7013, abs=5e-5)
    variance, error = total_variance("NVIL")
    assert error < TOLERANCE / 4
    assert variance == pytest.approx(exact, rel=TOLERANCE)


@pytest.mark.parametrize(("temperature", "expected"), [(0.3, 0.6765), (0.7, 0.2887), (2.0, 0.1713)])
def test_rebar(temperature, expected):
    """At scale 1, with no baseline."""
    variance, error = total_variance("REBAR", temperature=temperature, muprop_relaxation=False)
    assert error < TOLERANCE / 4
    assert variance == pytest.approx(expected, rel=TOLERANCE)
