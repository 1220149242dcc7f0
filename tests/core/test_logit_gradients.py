"""Gradients by Bernoulli logits against their closed forms, integrated exactly over the noise.

For one unit, D = f(1) - f(0), p = sigmoid(logit) and q = min(p, 1 - p):

    gradient      D p (1 - p)
    Var DisARM    D^2 q (1 - q)^2 (1/2 - q)
    Var LOO       D^2 p (1 - p) (1/2 - p (1 - p)), two samples
    Var ARM       D^2 [ 2/3 (1/8 - (1/2 - q)^3) - q^2 (1 - q)^2 ]
"""

import numpy as np
import pytest
import tensorflow as tf

from rebar.core import bernoulli, logit_gradients
from tests.quadrature import moments, nodes, sigmoid, states, uniforms

LOGITS = [-30.0, -12.0, -4.0, -1.3, -0.2, 0.0, 0.4, 1.0, 2.5, 7.0, 20.0]
F = np.array([1.7, -0.6])
"""f(0), f(1)."""
D = F[1] - F[0]


def samples(u, logits):
    """b and b~ in float64."""
    z = bernoulli.logistic(tf.constant(u))
    logits = tf.broadcast_to(tf.constant(logits, tf.float64), z.shape)
    return bernoulli.hard_sample(logits, z), bernoulli.hard_sample(logits, -z), logits


def pair_estimates(f, logits):
    """ARM [n, H], DisARM [n, H], weights [n], b and b~ for f: [n, H] -> [n]."""
    u, weights = uniforms(logits)
    b, b_antithetic, tiled = samples(u, logits)
    f_b, f_antithetic = (tf.constant(f(s.numpy())) for s in (b, b_antithetic))
    arm = logit_gradients.arm(f_b, f_antithetic, tf.constant(u))
    disarm = logit_gradients.disarm(f_b, f_antithetic, b, b_antithetic, tiled)
    return arm.numpy(), disarm.numpy(), weights, b.numpy(), b_antithetic.numpy()


def one_unit(b):
    return F[b[:, 0].astype(int)]


def quadratic(b):
    """Of three units, with interactions."""
    a = np.array([[0.7, -1.1, 0.4], [0.0, 0.3, 2.0], [0.0, 0.0, -0.8]])
    return np.einsum("ni,ij,nj->n", b, a, b) + b @ np.array([0.2, -0.5, 1.0])


@pytest.mark.parametrize("logit", LOGITS)
def test_closed_forms_of_pairs(logit):
    p, p_off = sigmoid(logit), sigmoid(-logit)
    q, most = min(p, p_off), max(p, p_off)
    arm, disarm, weights, _, _ = pair_estimates(one_unit, [logit])
    tolerance = {"rtol": 1e-9, "atol": 1e-14}
    for estimates, variance in (
        (arm, D**2 * (2 / 3 * (1 / 8 - (1 / 2 - q) ** 3) - q**2 * most**2)),
        (disarm, D**2 * q * most**2 * (1 / 2 - q)),
    ):
        mean, result = moments(estimates, weights)
        np.testing.assert_allclose(mean, D * p * p_off, **tolerance)
        np.testing.assert_allclose(result, variance, **tolerance)


@pytest.mark.parametrize("logit", LOGITS)
def test_closed_forms_of_independent_samples(logit):
    p, p_off = sigmoid(logit), sigmoid(-logit)
    b, weights = states([logit, logit])  # a row: the two samples of an example
    signal = logit_gradients.leave_one_out(tf.constant(F[b.astype(int).T]))
    both = [
        logit_gradients.reinforce(s, tf.constant(b[:, k, None]), tf.constant(logit, tf.float64))
        for k, s in enumerate(tf.unstack(signal))
    ]
    loo = np.mean(both, axis=0)
    np.testing.assert_allclose(
        loo[:, 0], (one_unit(b[:, :1]) - one_unit(b[:, 1:])) * (b[:, 0] - b[:, 1]) / 2, atol=1e-14
    )
    mean, variance = moments(loo, weights)
    np.testing.assert_allclose(mean, D * p * p_off, rtol=1e-12)
    np.testing.assert_allclose(variance, D**2 * p * p_off * (1 / 2 - p * p_off), rtol=1e-9)
    single = logit_gradients.reinforce(
        tf.constant(F), tf.constant([[0.0], [1.0]], tf.float64), tf.constant(logit, tf.float64)
    )
    mean, _ = moments(single, np.array([p_off, p]))
    np.testing.assert_allclose(mean, D * p * p_off, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("f", [one_unit, quadratic])
def test_disarm_is_arm_averaged_over_the_noise_of_a_pair(f):
    """So both have one mean, and no component of DisARM varies more."""
    logits = [-0.8] if f is one_unit else [-0.8, 0.3, 2.2]
    arm, disarm, weights, b, b_antithetic = pair_estimates(f, logits)
    pairs = np.concatenate([b, b_antithetic], axis=1)
    different, of_row = np.unique(pairs, axis=0, return_inverse=True)
    assert len(different) == 3 ** len(logits)
    for pair in range(len(different)):
        rows = np.ravel(of_row) == pair
        averaged = np.average(arm[rows], axis=0, weights=weights[rows])
        np.testing.assert_allclose(disarm[rows] - averaged, 0, atol=1e-14)
    (arm_mean, arm_variance), (mean, variance) = moments(arm, weights), moments(disarm, weights)
    np.testing.assert_allclose(mean, arm_mean, rtol=1e-12)
    assert np.all(variance < arm_variance)
    assert np.all(disarm[b == b_antithetic] == 0)


def test_disarm_varies_no_more_than_arm_at_any_logit():
    for logit in np.linspace(-9, 9, 91):
        arm, disarm, weights, _, _ = pair_estimates(one_unit, [logit])
        assert moments(disarm, weights)[1] <= moments(arm, weights)[1]


@pytest.mark.parametrize("logit", [-1000.0, -88.0, -31.0, -30.0, -16.0, 16.0, 30.0, 50.0, 1e30])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_saturated_logits(logit, dtype):
    """Finite and right to rounding for every pair and uniform, also those of probability 1e-13."""
    f, f_antithetic = tf.constant([3.0], dtype), tf.constant([-250.0], dtype)
    sure = float(logit > 0)
    for b in (sure, 1 - sure):
        b_antithetic = tf.constant([[1 - b]], dtype)
        value = logit_gradients.disarm(
            f, f_antithetic, tf.constant([[b]], dtype), b_antithetic, tf.constant([[logit]], dtype)
        )
        # sigmoid(|logit|) is 1 to 1.2e-7.
        np.testing.assert_allclose(value, 126.5 * (2 * b - 1), rtol=2e-7)
        value = logit_gradients.reinforce(
            f, tf.constant([[b]], dtype), tf.constant([[logit]], dtype)
        )
        expected = 3 * (sigmoid(-logit) if b == 1 else -sigmoid(logit))
        np.testing.assert_allclose(value, expected, rtol=2e-7, atol=1e-6)
    for u in (2.0**-24, 0.3, 1 - 2.0**-24):
        value = logit_gradients.arm(f, f_antithetic, tf.constant([[u]], dtype))
        np.testing.assert_allclose(value, 253 * (u - 0.5), rtol=1e-6)


@pytest.mark.parametrize("logit", [-30.0, -12.0, 9.0, 4.0])
def test_the_mean_over_every_uniform_that_float32_can_draw(logit):
    """2^23 of them: right to their spacing."""
    u = (np.arange(2**23, dtype=np.float32) + np.float32(0.5)) * np.float32(2.0**-23)
    z = bernoulli.logistic(tf.constant(u[:, np.newaxis]))
    logits = tf.fill(z.shape, tf.constant(logit))
    b, b_antithetic = bernoulli.hard_sample(logits, z), bernoulli.hard_sample(logits, -z)
    difference = (b - b_antithetic)[:, 0]  # f(b) - f(b~) for f(b) = b
    zero = tf.zeros_like(difference)
    for estimates in (
        logit_gradients.disarm(difference, zero, b, b_antithetic, logits),
        logit_gradients.arm(difference, zero, tf.constant(u[:, np.newaxis])),
    ):
        mean = np.mean(estimates, dtype=np.float64)
        assert mean == pytest.approx(sigmoid(logit) * sigmoid(-logit), rel=1e-5, abs=2.0**-23)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 3), (2, 4), (5, 2)])
def test_bound_with_one_replaced(shape, dtype):
    """Against log-sum-exp written out; also where exp would overflow or vanish."""
    random = np.random.default_rng(1)
    for offset in (0, 3000, -3000):
        f, replacement = (random.normal(scale=3, size=shape) + offset for _ in range(2))
        result = logit_gradients.bound_with_one_replaced(
            tf.constant(f.astype(dtype)), tf.constant(replacement.astype(dtype))
        )
        for k in range(shape[0]):
            for example in range(shape[1]):
                column = np.append(np.delete(f[:, example], k), replacement[k, example])
                expected = np.logaddexp.reduce(column) - np.log(len(column))
                tolerance = 2e-3 if dtype == np.float32 else 1e-11
                assert float(result[k, example]) == pytest.approx(expected, rel=0, abs=tolerance)


def test_mean_of_others():
    f = tf.constant([[1.0, 10.0], [2.0, 30.0], [6.0, 20.0]])
    others = logit_gradients.mean_of_others(f)
    assert others.numpy().tolist() == [[4, 25], [3.5, 15], [1.5, 20]]
    np.testing.assert_array_equal(logit_gradients.leave_one_out(f), f - others)
    f = tf.constant([[1.0, -5.0], [4.0, 2.0]])
    assert logit_gradients.mean_of_others(f).numpy().tolist() == f.numpy()[::-1].tolist()


def test_values_a_row_must_be_vectors():
    """[N, 1] would broadcast silently to [N, N]."""
    f, units = tf.zeros([4, 1]), tf.zeros([4, 2])
    for call in (
        lambda: logit_gradients.reinforce(f, units, units),
        lambda: logit_gradients.arm(f, f, units),
        lambda: logit_gradients.disarm(f, f, units, units, units),
    ):
        with pytest.raises(ValueError, match=r"must be \[N\]"):
            call()
    for call in (
        lambda: logit_gradients.mean_of_others(tf.zeros([4])),
        lambda: logit_gradients.bound_with_one_replaced(tf.zeros([4]), tf.zeros([4])),
    ):
        with pytest.raises(ValueError, match=r"must be \[K, B\]"):
            call()


def test_the_nodes_integrate_polynomials_between_the_thresholds():
    """The oracle itself: moments of u below q, and of its sides."""
    u, weights = nodes(-1.0)
    q = sigmoid(-1.0)
    for power in range(4):
        for inside, low, high in ((u < q, 0, q), (u > q, q, 1), (u > 1 - q, 1 - q, 1)):
            exact = (high ** (power + 1) - low ** (power + 1)) / (power + 1)
            assert np.sum(weights[inside] * u[inside] ** power) == pytest.approx(exact, rel=1e-13)
