"""Enumeration against a model written in NumPy, and what it refuses."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from rebar.core import enumeration
from rebar.errors import RebarError
from rebar.models.sbn import SigmoidBeliefNetwork
from tests.conformance.cases import FAMILIES, flat, float64, images, tiny_model

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def log_bernoulli(b, logits):
    p = sigmoid(logits)
    return np.sum(np.log(np.where(b == 1, p, 1 - p)))


def numpy_terms(family, weights, mean, x):
    """(q(b | x), f) of every state of a two-layer linear model at one image [6]."""
    bias = np.log(mean / (1 - mean))
    weights = iter(weights)
    if family == "unconditional":
        prior = next(weights)
    elif family == "multilayer":
        kernel, offset = next(weights), next(weights)
        prior = (x - mean)[:3] @ kernel + offset
    q_0, q_0_bias, q_1, q_1_bias = (next(weights) for _ in range(4))
    if family != "2017":
        p_1, p_1_bias = next(weights), next(weights)
    p_0, p_0_bias = next(weights), next(weights)
    seen = (x - mean)[:3] if family == "2017" else x - mean
    target, bias = (x, bias) if family == "unconditional" else (x[3:], bias[3:])
    for state in itertools.product((0, 1), repeat=4):
        low, high = np.array(state[:2]), np.array(state[2:])
        log_q = log_bernoulli(low, seen @ q_0 + q_0_bias)
        log_q += log_bernoulli(high, (2 * low - 1) @ q_1 + q_1_bias)
        if family == "2017":
            f = log_bernoulli(target, (2 * high - 1) @ p_0 + p_0_bias + bias)
        else:
            f = log_bernoulli(high, prior)
            f += log_bernoulli(low, (2 * high - 1) @ p_1 + p_1_bias)
            f += log_bernoulli(target, (2 * low - 1) @ p_0 + p_0_bias + bias) - log_q
        yield np.exp(log_q), f


def numpy_elbo(family, weights, mean, x):
    return np.array([sum(q * f for q, f in numpy_terms(family, weights, mean, row)) for row in x])


def numpy_bound(family, weights, mean, x, n_samples):
    """The K-sample bound [B] at images [B, 6]."""
    bounds = []
    for row in x:
        tuples = itertools.product(numpy_terms(family, weights, mean, row), repeat=n_samples)
        bounds.append(
            sum(
                np.prod([q for q, _ in terms]) * np.log(np.mean([np.exp(f) for _, f in terms]))
                for terms in tuples
            )
        )
    return np.array(bounds)


def by_differences(function, weights):
    """Central differences of a function of the weights, which it sees in place."""
    step, differences = 1e-5, []
    for weight in weights:
        for index in np.ndindex(weight.shape):
            start = weight[index]
            values = []
            for sign in (1, -1):
                weight[index] = start + sign * step
                values.append(function())
            weight[index] = start
            differences.append((values[0] - values[1]) / (2 * step))
    return np.array(differences)


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_numpy(family):
    model, x = tiny_model(2, family), images(3)
    mean = np.array(model.get_config()["input_mean"])
    weights = [v.numpy() for v in model.trainable_variables]
    result = enumeration.elbo_and_gradient(model, x)
    np.testing.assert_allclose(result.value, numpy_elbo(family, weights, mean, x), rtol=1e-12)
    marginal = [
        np.log(sum(q * np.exp(f) for q, f in numpy_terms(family, weights, mean, row))) for row in x
    ]
    np.testing.assert_allclose(enumeration.log_marginal(model, x), marginal, rtol=1e-12)

    differences = by_differences(lambda: -np.mean(numpy_elbo(family, weights, mean, x)), weights)
    gradient = flat(result.gradients)
    np.testing.assert_allclose(gradient, differences, atol=1e-8 * np.max(np.abs(gradient)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_bound_equals_numpy(family):
    model, x = tiny_model(2, family), images(1)
    mean = np.array(model.get_config()["input_mean"])
    weights = [v.numpy() for v in model.trainable_variables]
    result = enumeration.bound_and_gradient(model, x, 2)

    def bound():
        return numpy_bound(family, weights, mean, x, 2)

    np.testing.assert_allclose(result.value, bound(), rtol=1e-12)
    gradient = flat(result.gradients)
    differences = by_differences(lambda: -np.mean(bound()), weights)
    np.testing.assert_allclose(gradient, differences, atol=1e-8 * np.max(np.abs(gradient)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_layer", [1, 2])
def test_bounds_lie_between_the_elbo_and_the_marginal(n_layer, family):
    """The one of one sample is the ELBO; each further sample makes it larger."""
    model, x = tiny_model(n_layer, family), images(4)
    elbo = enumeration.elbo_and_gradient(model, x)
    values = [enumeration.bound_and_gradient(model, x, k).value for k in (1, 2, 3)]
    np.testing.assert_allclose(values[0], elbo.value, rtol=1e-13)
    first = enumeration.bound_and_gradient(model, x, 1).gradients
    np.testing.assert_allclose(flat(first), flat(elbo.gradients), rtol=1e-10, atol=1e-14)
    assert np.all(np.diff([*values, enumeration.log_marginal(model, x)], axis=0) > 0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_layer", [1, 2, 3])
def test_elbo_is_below_the_marginal(n_layer, family):
    model, x = tiny_model(n_layer, family), images(4)
    gap = enumeration.log_marginal(model, x) - enumeration.elbo_and_gradient(model, x).value
    assert np.all(gap > 0)


def test_states_are_all_different():
    states = np.concatenate(enumeration.all_states([(2,), (1,), (3,)]), axis=1)
    assert states.shape == (64, 6)
    assert len(np.unique(states, axis=0)) == 64
    assert set(np.unique(states)) == {0, 1}
    assert [s.shape[1] for s in enumeration.all_states([(2,), (1,), (3,)])] == [2, 1, 3]


def test_too_many_states_are_refused():
    assert enumeration.all_states([(6,), (6,)])[0].shape == (4096, 6)
    with pytest.raises(RebarError, match="6 latent units and 7 latent units: 8192 states are"):
        enumeration.all_states([(6,), (7,)])
    model = SigmoidBeliefNetwork((200, 200), np.full(6, 0.5))
    with pytest.raises(RebarError, match="200 latent units and 200 latent units"):
        enumeration.elbo_and_gradient(model, tf.zeros([1, 6]))
    with pytest.raises(RebarError, match="200 latent units and 200 latent units"):
        enumeration.log_marginal(model, tf.zeros([1, 6]))


def test_too_many_combinations_are_refused():
    model, x = tiny_model(3), images(1)
    assert enumeration.bound_and_gradient(model, x, 3).value.shape == (1,)
    for n_samples in (0, 4):
        with pytest.raises(RebarError, match=rf"n_samples={n_samples} of 64 .* at most 262144"):
            enumeration.bound_and_gradient(model, x, n_samples)
    model = SigmoidBeliefNetwork((200, 200), np.full(6, 0.5))
    with pytest.raises(RebarError, match="200 latent units and 200 latent units"):
        enumeration.bound_and_gradient(model, tf.zeros([1, 6]), 2)
