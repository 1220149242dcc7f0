"""Families of latent variables: both are checked by the same properties."""

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise
from rebar.core import families

SHAPES = {"Bernoulli": (3,), "categorical": (2, 4)}
N = 200_000


def logits_of(name):
    return tf.constant(np.random.default_rng(2).normal(size=(1, *SHAPES[name])) * 1.5)


def draw(name, rows, position=0):
    """Logits [rows, ...] and uniforms of the same shape."""
    logits = tf.repeat(logits_of(name), rows, axis=0)
    u = noise.uniforms(noise.key(5, "analysis", position), logits.shape, tf.float64)
    return logits, u


def sample(name, rows):
    logits, u = draw(name, rows)
    family = families.of(logits)
    return family, logits, u, family.hard_sample(logits, family.noise(u))


@pytest.mark.parametrize("name", SHAPES)
def test_frequencies_are_the_mean(name):
    family, logits, _, samples = sample(name, N)
    mean = family.mean(logits)[0]
    z = (np.mean(samples, axis=0) - mean) / np.sqrt(mean * (1 - mean) / N)
    assert np.max(np.abs(z)) < 5  # false-fail rate 8 * 6e-7


@pytest.mark.parametrize("name", SHAPES)
def test_log_prob_of_all_states_and_its_score(name):
    states = families.states(SHAPES[name], tf.float64)
    assert states.shape == (families.n_states(SHAPES[name]), *SHAPES[name])
    logits = tf.repeat(logits_of(name), len(states), axis=0)
    family = families.of(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_q = family.log_prob(states, logits)
    np.testing.assert_allclose(np.sum(np.exp(log_q)), 1, rtol=1e-12)
    np.testing.assert_allclose(
        family.score(states, logits), tape.gradient(log_q, logits), atol=1e-12
    )


@pytest.mark.parametrize("name", SHAPES)
def test_mean_product(name):
    logits = logits_of(name)
    g = tf.constant(np.random.default_rng(3).normal(size=logits.shape))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        mean = families.of(logits).mean(logits)
    expected = tape.gradient(mean, logits, g)
    np.testing.assert_allclose(families.of(logits).mean_product(logits, g), expected, atol=1e-12)


@pytest.mark.parametrize("muprop", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_limits_of_the_relaxation(name, muprop):
    family, logits, u, samples = sample(name, 50)
    z = family.noise(u)
    cold = family.relaxed_sample(logits, z, 1e-6, muprop)
    np.testing.assert_allclose(cold, samples, atol=1e-6)
    hot = family.relaxed_sample(logits, z, 1e6, muprop)
    limit = family.mean(logits if muprop else tf.zeros_like(logits))
    np.testing.assert_allclose(hot, limit, atol=1e-4)


def noise_given(name, samples, v, logits):
    """Noise given a sample, from uniforms v, written down from the papers."""
    if name == "Bernoulli":
        low = tf.sigmoid(-logits)
        u = tf.where(samples > 0, low + (1 - low) * v, low * v)
        return tf.math.log(u) - tf.math.log1p(-u)
    e = -tf.math.log(v)
    top = tf.reduce_logsumexp(logits, axis=-1, keepdims=True) - tf.math.log(
        tf.reduce_sum(samples * e, axis=-1, keepdims=True)
    )
    others = -tf.math.log(e / tf.exp(logits) + tf.exp(-top))
    return tf.where(samples > 0, top, others) - logits


def uniforms_given(name, samples, u, logits):
    """The uniforms with which the noise given a sample is that of u."""
    if name == "Bernoulli":
        low = tf.sigmoid(-logits)
        return tf.where(samples > 0, (u - low) / (1 - low), u / low)
    c = logits - tf.math.log(-tf.math.log(u))
    top = tf.reduce_sum(samples * c, axis=-1, keepdims=True)
    e_top = tf.exp(tf.reduce_logsumexp(logits, axis=-1, keepdims=True) - top)
    return tf.exp(-tf.where(samples > 0, e_top, tf.exp(logits) * (tf.exp(-c) - tf.exp(-top))))


@pytest.mark.parametrize("name", SHAPES)
def test_coupling_is_the_derivative_of_the_noise_given_the_sample(name):
    family, logits, u, samples = sample(name, 100)
    v = uniforms_given(name, samples, u, logits)
    g = tf.constant(np.random.default_rng(4).normal(size=logits.shape))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        z = noise_given(name, samples, v, logits)
    np.testing.assert_allclose(z, family.noise(u), atol=1e-7)
    expected = tape.gradient(z, logits, g)
    np.testing.assert_allclose(family.coupling(samples, u, logits)(g), expected, atol=1e-7)


@pytest.mark.parametrize("name", SHAPES)
def test_noise_given_a_sample(name):
    """Its value, its derivative, and that it leads to the sample."""
    family, logits, _, samples = sample(name, 100)
    random = np.random.default_rng(5)
    v, g = tf.constant(random.random(logits.shape)), tf.constant(random.normal(size=logits.shape))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        expected = noise_given(name, samples, v, logits)
    z, product = family.noise_given_sample(samples, v, logits)
    np.testing.assert_allclose(z, expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(product(g), tape.gradient(expected, logits, g), atol=1e-10)
    np.testing.assert_array_equal(family.hard_sample(logits, z), samples)


@pytest.mark.parametrize("name", SHAPES)
def test_uniforms_given_the_sample_are_uniform(name):
    """The coupling assumes this of the noise that it keeps."""
    _, logits, u, samples = sample(name, N)
    v = np.sort(np.reshape(uniforms_given(name, samples, u, logits), -1))
    distance = np.max(np.abs(v - (np.arange(v.size) + 0.5) / v.size))
    assert distance < 2.8 / np.sqrt(v.size)  # Kolmogorov-Smirnov, false-fail rate 3e-7
