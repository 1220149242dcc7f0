"""Likelihoods at the extremes, the relaxations' limits, and the derivative of coupled noise."""

import numpy as np
import pytest
import tensorflow as tf

from rebar.core import bernoulli

U = np.array([1e-4, 0.03, 0.2, 0.5, 0.71, 0.99])
LOGITS = np.array([-9.0, -2.0, -0.3, 0.0, 0.4, 3.0, 9.0])


def grid(dtype=tf.float64):
    """Logits and uniforms [7, 6] in all pairs."""
    logits, u = np.meshgrid(LOGITS, U, indexing="ij")
    return tf.constant(logits, dtype), tf.constant(u, dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-7), (np.float64, 4e-16)])
def test_log_prob_against_long_double(dtype, tolerance):
    """Each unit alone, for b = 0, 1 and a relaxed value, up to logits of 80 (float64: 700).

    A sum's terms may cancel: errors are relative to |b l| and softplus, not their difference.
    """
    top = 80 if dtype == np.float32 else 700
    logits = np.concatenate([[0, 1e-8, -1e-8], np.linspace(-top, top, 4001)]).astype(dtype)
    exact_logits = logits.astype(np.longdouble)
    softplus = np.maximum(exact_logits, 0) + np.log1p(np.exp(-np.abs(exact_logits)))
    for b in (0.0, 1.0, 0.25):
        ours = bernoulli.log_prob(tf.fill([len(logits), 1], tf.cast(b, dtype)), logits[:, None])
        error = np.abs(ours.numpy() - (b * exact_logits - softplus))
        assert np.all(error <= tolerance * 4 * (np.abs(b * exact_logits) + softplus))
    assert np.all(np.isfinite(bernoulli.log_prob(tf.ones([1]), tf.constant([[1e30], [-1e30]]))))


def test_log_prob_of_all_states_sums_to_one():
    states = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)], np.float64)
    logits = np.array([[0.3, -2.0, 5.0]])
    assert np.sum(np.exp(bernoulli.log_prob(states, logits))) == pytest.approx(1, abs=1e-14)


def test_logistic_is_the_logit():
    np.testing.assert_allclose(bernoulli.logistic(tf.constant(U)), np.log(U / (1 - U)), rtol=1e-13)
    extremes = bernoulli.logistic(tf.constant([2.0**-24, 1 - 2.0**-24]))
    np.testing.assert_allclose(extremes, [-16.635532, 16.635532], rtol=1e-6)


def test_hard_samples_are_on_with_the_probability_of_the_logit():
    """The unit is on exactly where u > sigmoid(-l): with probability sigmoid(l)."""
    logits, u = grid()
    b = bernoulli.hard_sample(logits, bernoulli.logistic(u))
    off = np.isclose(u, 1 / (1 + np.exp(logits)))
    assert off.sum() == 1
    np.testing.assert_array_equal(b.numpy()[~off], (u > tf.sigmoid(-logits)).numpy()[~off])
    assert b.dtype == tf.float64
    with tf.GradientTape() as tape:
        tape.watch(logits)
        b = bernoulli.hard_sample(logits, bernoulli.logistic(u))
    assert tape.gradient(b, logits) is None


@pytest.mark.parametrize("muprop", [True, False])
def test_relaxed_samples_tend_to_hard_ones_as_the_temperature_falls(muprop):
    logits, u = grid()
    z = bernoulli.logistic(u)
    clear = np.abs(logits + z) > 0.01
    relaxed = bernoulli.relaxed_sample(logits, z, 1e-4, muprop).numpy()
    np.testing.assert_allclose(relaxed[clear], bernoulli.hard_sample(logits, z)[clear], atol=1e-12)


def test_relaxed_samples_at_high_temperature():
    """The mean, or one half without the correction of REBAR's paper."""
    logits, u = grid()
    z = bernoulli.logistic(u)
    hot = bernoulli.relaxed_sample(logits, z, 1e9, True)
    np.testing.assert_allclose(hot, tf.sigmoid(logits), atol=1e-7)
    hot = bernoulli.relaxed_sample(logits, z, 1e9, False)
    np.testing.assert_allclose(hot, np.full(hot.shape, 0.5), atol=1e-7)


def test_relaxed_samples_at_temperature_one():
    """By hand: l = 1, z = 2, T = 1 is sigmoid(3), plus l / 2 with the correction."""
    one, two = tf.constant([[1.0]]), tf.constant([[2.0]])
    for muprop, a in ((False, 3.0), (True, 3.5)):
        value = bernoulli.relaxed_sample(one, two, 1.0, muprop)
        assert float(value[0, 0]) == pytest.approx(1 / (1 + np.exp(-a)), rel=1e-6)


def coupled(b, w, logits):
    """v, from its definition."""
    threshold = tf.sigmoid(-logits)
    return tf.where(b == 1, threshold + (1 - threshold) * w, threshold * w)


def test_coupling_derivative_is_that_of_the_coupled_noise():
    """Autodiff of logit(v) for the w at which v = u; for all pairs of logits and uniforms."""
    logits, u = grid()
    threshold = tf.sigmoid(-logits)
    b = tf.cast(u > threshold, tf.float64)
    w = tf.where(b == 1, (u - threshold) / (1 - threshold), u / threshold)
    assert np.all((w >= 0) & (w <= 1))
    assert 10 < np.sum(b) < np.size(b) - 10
    with tf.GradientTape() as tape:
        tape.watch(logits)
        v = coupled(b, w, logits)
        z = tf.math.log(v) - tf.math.log(1 - v)
    np.testing.assert_allclose(v, u, rtol=1e-9)
    derivative = tape.gradient(z, logits)
    ours = bernoulli.coupling_derivative(b, u, logits)
    np.testing.assert_allclose(ours, derivative, rtol=1e-9)
    assert np.all(ours < 0)


def test_coupled_noise_keeps_the_sample():
    """v is on the side of the threshold with the same b, also after a change of the logits."""
    logits, u = grid()
    b = tf.cast(u > tf.sigmoid(-logits), tf.float64)
    for w in (0.01, 0.5, 0.99):
        for moved in (logits - 1, logits, logits + 2):
            v = coupled(b, tf.constant(w, tf.float64), moved)
            again = bernoulli.hard_sample(moved, bernoulli.logistic(v))
            np.testing.assert_array_equal(again, b)


def test_coupling_derivative_is_finite_and_bounded_in_float32():
    """At most 1 in size: |d logit(v) / dl| = u'/u with u > u' where b = 1, and the mirror image."""
    u = np.array([2.0**-24, 1e-3, 0.5, 1 - 1e-3, 1 - 2.0**-24], np.float32)
    for logit in (-100.0, -30.0, -16.0, 0.0, 16.0, 30.0, 100.0):
        logits = tf.fill(u.shape, tf.constant(logit))
        b = bernoulli.hard_sample(logits, bernoulli.logistic(tf.constant(u)))
        r = bernoulli.coupling_derivative(b, tf.constant(u), logits).numpy()
        assert np.all((r <= 0) & (r >= -1.001))


@pytest.mark.parametrize("b", [0.0, 1.0])
@pytest.mark.parametrize("u", [1e-6, 0.3, 1 - 1e-6])
def test_the_coupling_keeps_its_digits(b, u):
    logits = np.linspace(-80, 80, 161, dtype=np.float32)
    b, u = np.full_like(logits, b), np.full_like(logits, u)
    single = bernoulli.coupling_derivative(b, u, tf.constant(logits)).numpy()
    double = bernoulli.coupling_derivative(
        b.astype(float), u.astype(float), tf.constant(logits.astype(float))
    ).numpy()
    np.testing.assert_allclose(single, double, rtol=2e-6)
