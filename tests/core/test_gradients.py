"""Gradients as lists, samplers, bounds: small functions, small numbers."""

import math

import numpy as np
import pytest
import tensorflow as tf

from rebar.core import bounds, gradients, samplers
from rebar.noise import Noise
from rebar.types import Rollout


def test_score_gradient_by_hand():
    """One parameter t, two layers: - mean [ s_1 d log q_1 + s_2 d log q_2 + d log p + c . d l ]."""
    t, unused = tf.Variable(2.0), tf.Variable([1.0, 1.0])
    constants = tf.constant([1.0, 3.0])
    with tf.GradientTape(persistent=True) as tape:
        log_q = (t * constants, t * t * constants)
        log_joint = 5 * t * tf.ones([2])
        logits = (tf.stack([t, 2 * t])[:, None], tf.zeros([2, 1]) + t)
        rollout = Rollout(log_joint, log_joint, log_q, logits, ())
    signals = [tf.constant([1.0, 2.0]), tf.constant([0.5, -1.0])]
    # d log q_1 = (1, 3), d log q_2 = 2 t (1, 3) = (4, 12), d log p = 5.
    value, zero = gradients.score_gradient(tape, rollout, signals, [t, unused])
    assert float(value) == pytest.approx(-(1 * 1 + 2 * 3 + 0.5 * 4 - 1 * 12 + 10) / 2)
    assert zero.numpy().tolist() == [0, 0]
    value, _ = gradients.score_gradient(tape, rollout, signals[:1], [t, unused])
    assert float(value) == pytest.approx(-(1 * (1 + 4) + 2 * (3 + 12) + 10) / 2)
    linear = [tf.constant([[1.0], [10.0]]), tf.constant([[100.0], [1000.0]])]
    value, _ = gradients.score_gradient(tape, rollout, signals[:1], [t, unused], linear)
    assert float(value) == pytest.approx(-(45 + 1 + 2 * 10 + 100 + 1000) / 2)


def test_no_gradient_flows_through_the_signals():
    t = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        log_q = (t * tf.ones([2]),)
        rollout = Rollout(tf.zeros([2]), tf.zeros([2]), log_q, (), ())
        signal = t * tf.ones([2])
    assert float(gradients.score_gradient(tape, rollout, [signal], [t])[0]) == -3


def test_inner_products_and_counts():
    a = [tf.constant([[1.0, 2.0]]), tf.constant(3.0)]
    b = [tf.constant([[4.0, -5.0]]), tf.constant(6.0)]
    assert float(gradients.inner(a, b)) == 12
    assert gradients.count(a) == 3
    assert float(gradients.mean_square(a)) == pytest.approx(14 / 3)
    with pytest.raises(ValueError, match="zip"):
        gradients.inner(a, b[:1])


def test_names_of_variables_are_unique():
    """Those of repeated ones end in their positions; others are as they are."""
    variables = [tf.Variable(0.0, name=name) for name in ("a", "b", "a", "c/d")]
    assert gradients.variable_names(variables) == ["a_0", "b", "a_2", "c/d"]


def test_multi_sample_bound():
    f = tf.constant([[math.log(1), 1000.0], [math.log(3), 1000.0]])
    np.testing.assert_allclose(bounds.multi_sample(f), [math.log(2), 1000], rtol=1e-6)
    one = tf.constant([[1.0, -2.0]])
    np.testing.assert_array_equal(bounds.multi_sample(one), one[0])


def test_rows_are_split_sample_major():
    values = tf.constant([0.0, 1, 2, 10, 11, 12])
    assert bounds.split_samples(values, 2).numpy().tolist() == [[0, 1, 2], [10, 11, 12]]


def test_rows_of_any_shape_by_sample():
    rows = tf.reshape(tf.range(12), [6, 2])
    by_sample = bounds.by_sample(rows, 3)
    assert by_sample.shape == (3, 2, 2)
    np.testing.assert_array_equal(by_sample[2, 1], rows[5])


def test_values_an_example_must_be_vectors():
    """[B, 1] would broadcast silently to [B, B]."""
    with pytest.raises(ValueError, match=r"must be \[N\]"):
        bounds.split_samples(tf.zeros([4, 1]), 2)
    with pytest.raises(ValueError, match=r"must be \[K, B\]"):
        bounds.multi_sample(tf.zeros([4]))


@pytest.mark.parametrize("branches", [False, True])
def test_a_parted_chain(branches):
    """Below its layer it is the main chain, above it the main noise or that of the branch."""
    uniforms = tuple(tf.constant([[u, 1 - u]]) for u in (0.1, 0.2, 0.3))
    own = tf.constant([[0.9, 0.9]])
    noise = Noise(uniforms, branches=((own, own), (own,), ()) if branches else ())
    below, logits = (tf.constant([[1.0, 0.0]]),), tf.zeros([1, 2])
    flipped = samplers.parted(noise, 1, below, lambda logits: logits + 7)
    assert flipped(0, logits) is below[0]
    assert flipped(1, logits).numpy().tolist() == [[7, 7]]
    assert flipped(2, logits).numpy().tolist() == [[1, 1] if branches else [0, 1]]
    antithetic = samplers.antithetic(noise, 1, below)
    assert antithetic(1, logits).numpy().tolist() == [[1, 0]]


def test_samplers():
    uniforms = (tf.constant([[0.1, 0.9]]), tf.constant([[0.6, 0.4]]))
    logits = tf.constant([[1.0, 1.0]])
    hard = samplers.hard(Noise(uniforms))
    # On where u > sigmoid(-1) = .269.
    assert hard(0, logits).numpy().tolist() == [[0, 1]]
    assert hard(1, logits).numpy().tolist() == [[1, 1]]
    np.testing.assert_allclose(samplers.mean()(0, logits), [[0.731059, 0.731059]], rtol=1e-6)
    assert samplers.fixed(uniforms)(1, logits) is uniforms[1]
    z = tuple(tf.math.log(u) - tf.math.log1p(-u) for u in uniforms)
    below = (tf.constant([[1.0, 0.0]]),)
    relaxed = samplers.relaxed(z, 0.5, False, switch_layer=1, below=below)
    assert relaxed(0, logits) is below[0]
    np.testing.assert_allclose(relaxed(1, logits), tf.sigmoid((logits + z[1]) / 0.5), rtol=1e-6)
    np.testing.assert_allclose(
        samplers.relaxed(z, 0.5)(0, logits),
        tf.sigmoid((logits + z[0]) / 0.5 + logits * (0.5 / 1.5)),
        rtol=1e-6,
    )


def test_transposed_products_are_those_with_the_jacobian():
    """J t for y = (sin(a) * b, sum b), which does not depend on c."""
    a, b, c = (tf.constant(v, tf.float64) for v in ([0.3, 0.7], [2.0, -1.0], [5.0]))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([a, b, c])
        y = [tf.sin(a) * b, tf.reduce_sum(b)]

    def pullback(u):
        return gradients.gradient_or_zero(tape, y, [a, b, c], u)

    tangents = [tf.constant(v, tf.float64) for v in ([1.5, -2.0], [0.5, 3.0], [7.0])]
    first, second = gradients.transpose(pullback, y, tangents)
    expected = tf.cos(a) * b * tangents[0] + tf.sin(a) * tangents[1]
    np.testing.assert_allclose(first, expected, rtol=1e-14)
    np.testing.assert_allclose(second, 3.5, rtol=1e-14)


def test_transposed_products_are_zero_where_nothing_depends_on_the_input():
    x = tf.constant(2.0)
    products = gradients.transpose(lambda u: [tf.zeros([])], [x], [tf.constant(1.0)])
    assert [float(v) for v in products] == [0.0]
