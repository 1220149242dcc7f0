"""Categorical formulas: against scipy, closed forms, and at logits that saturate."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.integrate import quad
from scipy.special import log_softmax, softmax

from rebar import noise
from rebar.core import categorical

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(3, 2, 5)) * 2
TEMPERATURES = [0.05, 0.7, 1, 3.0, 1000.0]


def one_hots(index, n_categories, dtype=np.float64):
    return tf.one_hot(index, n_categories, dtype=dtype)


def uniforms(*shape, dtype=tf.float64):
    return noise.uniforms(noise.key(1, "analysis"), shape, dtype)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_noise_is_finite_to_the_last_uniform(dtype):
    bits = 23 if dtype == tf.float32 else 32
    ends = tf.constant([2.0 ** -(bits + 1), 0.5, 1 - 2.0 ** -(bits + 1)], dtype)
    for function in (tf.function(categorical.exponentials, jit_compile=True), tf.identity):
        e = categorical.exponentials(ends) if function is tf.identity else function(ends)
        assert np.all(np.isfinite(e))
        assert np.all(e.numpy() > 0)
        np.testing.assert_allclose(e, -np.log(np.float64(ends)), rtol=1e-5)
    assert np.all(np.isfinite(categorical.gumbels(ends)))


@pytest.mark.parametrize("jit", [False, True])
def test_halves_of_words(jit):
    """All 65536 values of each half, once: uniform, apart, and the moments of -log u."""
    values = np.arange(2**16, dtype=np.uint32)
    words = tf.constant(values << 16 | np.random.default_rng(0).permutation(values))
    compiled = tf.function(lambda w: categorical.halves(w, tf.float32), jit_compile=jit)
    for half in compiled(words):
        assert half.dtype == tf.float32
        np.testing.assert_array_equal(np.sort(half), (values + 0.5) / 2**16)
        e = np.float64(categorical.exponentials(half))
        assert 7e-6 < e.min() < 8e-6
        assert 11 < e.max() < 12
        np.testing.assert_allclose([e.mean(), np.mean(e**2) / 2], 1, atol=2e-4)
        # E pi / (e + pi), the mean weight of a category, for pi from likely to rare.
        for pi in (0.5, 1e-2, 1e-4, 1e-5, 1e-6):
            exact, _ = quad(
                lambda t, pi=pi: pi * np.exp(-t) / (t + pi), 0, 40, points=[pi, 1], limit=200
            )
            np.testing.assert_allclose(np.mean(pi / (e + pi)), exact, rtol=0, atol=1.1e-6)


def test_log_prob_and_score():
    index = RANDOM.integers(0, 5, (3, 2))
    logits, one_hot = tf.constant(LOGITS), one_hots(index, 5)
    expected = np.take_along_axis(log_softmax(LOGITS, -1), index[..., None], -1)[..., 0]
    np.testing.assert_allclose(categorical.log_prob(one_hot, logits), expected, rtol=1e-14)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_prob = categorical.log_prob(one_hot, logits)
    score = categorical.score(one_hot, logits)
    np.testing.assert_allclose(score, tape.gradient(log_prob, logits), atol=1e-15)


def test_kl():
    prior = RANDOM.normal(size=(2, 5))
    q, log_q, log_p = softmax(LOGITS, -1), log_softmax(LOGITS, -1), log_softmax(prior, -1)
    result = categorical.kl_to(tf.constant(LOGITS), tf.constant(prior))
    np.testing.assert_allclose(result, np.sum(q * (log_q - log_p), -1), rtol=1e-13)
    uniform = categorical.kl_to(tf.constant(LOGITS), tf.zeros(5, tf.float64))
    np.testing.assert_allclose(uniform, np.sum(q * log_q, -1) + np.log(5), rtol=1e-13)


def test_softmax_product_is_the_jacobian():
    g = RANDOM.normal(size=LOGITS.shape)
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        p = tf.nn.softmax(logits)
    expected = tape.gradient(p, logits, output_gradients=g)
    np.testing.assert_allclose(categorical.softmax_product(p, g), expected, atol=1e-15)


def test_samples_have_the_right_frequencies():
    """Each count is binomial: 5 deviations, a false alarm in 1.7e6 for each of 5."""
    n, logits = 100_000, LOGITS[0, 0]
    one_hot = categorical.hard_sample(
        tf.constant(logits), categorical.gumbels(uniforms(n, 5))
    ).numpy()
    np.testing.assert_array_equal(one_hot.sum(-1), 1)
    p = softmax(logits)
    assert np.all(np.abs(one_hot.mean(0) - p) < 5 * np.sqrt(p * (1 - p) / n))


def test_samples_do_not_see_a_shift():
    """In float32, 1e4 + G would keep three digits of G; differences of logits keep all."""
    logits = tf.constant(np.round(LOGITS * 64) / 64, tf.float32)
    gumbels = categorical.gumbels(uniforms(1000, 1, 1, 5, dtype=tf.float32))
    near, far = (categorical.hard_sample(logits + shift, gumbels) for shift in (0, 8192))
    np.testing.assert_array_equal(near, far)


def conditional_problem(scale, dtype=tf.float64):
    """Logits [4, 6] times scale, every sample [6, 4, 6], exponentials [7, 6, 4, 6]."""
    logits = tf.constant(np.random.default_rng(2).uniform(-1, 1, (4, 6)) * scale, dtype)
    one_hot = tf.broadcast_to(tf.eye(6, dtype=dtype)[:, None], [6, 4, 6])
    return logits, one_hot, categorical.exponentials(uniforms(7, 6, 4, 6, dtype=dtype))


def test_conditional_logits_are_the_formula():
    logits, one_hot, e = conditional_problem(3)
    w, mask, noise_ = np.exp(logits), one_hot.numpy() == 1, e.numpy()
    e_d = np.sum(noise_ * one_hot, -1, keepdims=True) / w.sum(-1, keepdims=True)
    expected = -np.log(np.where(mask, e_d, noise_ / w + e_d))
    result = categorical.conditional_logits(logits, one_hot, e)
    np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(
        np.argmax(result, -1), np.broadcast_to(mask.argmax(-1), (7, 6, 4))
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("scale", [1, 30, 1e4])
def test_conditional_weights_are_their_softmax(scale, temperature):
    logits, one_hot, e = conditional_problem(scale)
    c = categorical.conditional_logits(logits, one_hot, e).numpy()
    log_pi = tf.nn.log_softmax(logits)
    weights = categorical.conditional_weights(log_pi, one_hot, e, temperature).numpy()
    result = weights / weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(result, softmax(c / temperature, -1), rtol=1e-9, atol=1e-14)
    if temperature == 1:
        tensor = tf.constant(1, tf.float64)
        same = categorical.conditional_weights(log_pi, one_hot, e, tensor)
        np.testing.assert_allclose(same, weights, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("scale", [1, 30, 1e4])
def test_conditional_weights_in_float32(scale, temperature):
    logits, one_hot, e = conditional_problem(scale, tf.float32)
    result, exact = (
        categorical.conditional_weights(
            tf.nn.log_softmax(tf.cast(logits, t)), tf.cast(one_hot, t), tf.cast(e, t), temperature
        ).numpy()
        for t in (tf.float32, tf.float64)
    )
    assert np.all((result >= 0) & (result <= 1.001))
    # The exponent carries the rounding of a logarithm of size up to 20, over T.
    np.testing.assert_allclose(result, exact, atol=2e-5 + 2e-6 / temperature)


def test_the_noise_given_the_sample_has_the_law_of_the_noise():
    """D drawn, then logits + G given D: without D known, that is logits + G again.

    Mean and variance of each coordinate by 5 standard errors, a false alarm in 1.7e6 for each of
    10. Planted: the noise of the others not bounded by D's.
    """
    n, logits = 200_000, tf.constant(LOGITS[1, 1])
    u, v = tf.unstack(uniforms(2, n, 5))
    one_hot = categorical.hard_sample(logits, categorical.gumbels(u))
    e = categorical.exponentials(v)
    right = categorical.conditional_logits(logits, one_hot, e) - logits

    def deviations(g):
        g = np.asarray(g)
        mean = (g.mean(0) - np.euler_gamma) / np.sqrt(np.pi**2 / 6 / n)
        # The fourth central moment of a Gumbel is 5.4 times its squared variance.
        spread = (g.var(0) - np.pi**2 / 6) / (np.pi**2 / 6 * np.sqrt(4.4 / n))
        return np.max(np.abs([mean, spread]))

    assert deviations(right) < 5
    log_z = tf.reduce_logsumexp(logits)
    unbounded = tf.where(one_hot > 0.5, log_z - tf.math.log(e), logits - tf.math.log(e)) - logits
    assert deviations(unbounded) > 20
