"""The exact gradient of objectives against sums over all states in NumPy."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.core import enumeration
from rebar.errors import RebarError

A = np.array([[0.5, -1.0], [1.5, 0.3], [-0.2, 0.1]])
W = np.array([[1.0, -0.5, 0.2], [0.3, 0.8, -1.2]])
CODES = np.array([1.3, -0.7, 2.0])


def objective(sample, logits, w):
    """Two units, then a variable of three categories whose logits depend on them."""
    b = sample.bernoulli("b", logits)
    c = sample.categorical("c", (b @ w)[:, tf.newaxis])
    return tf.sin(tf.linalg.matvec(c[:, 0], CODES) + b[:, 0]) - sample.log_q


def value(a, w):
    """Mean of f over the states and the rows of logits."""
    total = 0.0
    for row in a:
        for b in itertools.product((0.0, 1.0), repeat=2):
            p = 1 / (1 + np.exp(-row))
            q_b = np.prod(np.where(b, p, 1 - p))
            q_c = np.exp(b @ w) / np.sum(np.exp(b @ w))
            for k in range(3):
                q = q_b * q_c[k]
                total += q * (np.sin(CODES[k] + b[0]) - np.log(q))
    return total / len(a)


def derivative(f, x, step=1e-5):
    """Central differences."""
    result = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        result[i] = (f(up) - f(down)) / (2 * step)
    return result


@pytest.mark.parametrize("jit", [None, True])
@pytest.mark.parametrize("n_samples", [1, 2])
def test_the_gradient_is_that_of_the_mean(jit, n_samples):
    a, w = tf.Variable(A), tf.Variable(W)

    @tf.function(autograph=False, jit_compile=jit)
    def run():
        with tf.GradientTape() as tape:
            arguments = tf.convert_to_tensor(a), w
            estimate = rebar.estimate(
                objective, *arguments, estimator="Exact", n_samples=n_samples, seed=0, step=0
            )
        return estimate.loss, estimate.value, tape.gradient(estimate.loss, [a, w])

    loss, values, (of_a, of_w) = run()
    assert values.shape == (3,)
    np.testing.assert_allclose(-loss, value(A, W), rtol=1e-12)
    np.testing.assert_allclose(of_a, -derivative(lambda x: value(x, W), A), atol=1e-9)
    np.testing.assert_allclose(of_w, -derivative(lambda x: value(A, x), W), atol=1e-9)


def test_evaluations_are_the_states():
    arguments = tf.constant(A), tf.Variable(W)
    estimate = rebar.estimate(objective, *arguments, estimator="Exact", seed=0, step=0)
    assert estimate.evaluations == 4 * 3
    assert estimate.unbiased


def test_what_cannot_be_enumerated():
    def wide(sample):
        return tf.reduce_sum(sample.bernoulli("b", tf.zeros([1, 13])), axis=-1)

    with pytest.raises(RebarError, match=f"8192 states are more than {enumeration.MAX_STATES}"):
        rebar.estimate(wide, estimator="Exact", seed=0, step=0)
    with pytest.raises(RebarError, match="no discrete latent variables"):
        rebar.estimate(lambda sample: tf.zeros([1]), estimator="Exact", seed=0, step=0)
