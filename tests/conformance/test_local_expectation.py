"""CatIndeCateR and CatSumAndSample: exact means, and what they have in common.

For one layer, the mean is a sum over all samples of the main chain and, where it is in a category
that is summed, over the other category.
"""

import copy
import itertools

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise
from rebar.core import enumeration
from rebar.estimators.sum_and_sample import IndeCateR, SumAndSample
from rebar.testing import compare
from tests.conformance import categories
from tests.conformance.cases import float64, tensor

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")

SHAPES = [(1, 4), (2, 3), (3, 5)]
"""Numbers of variables and categories."""


def exact(model):
    (truth,) = enumeration.elbo_and_gradient(model, tensor([[1.0]])).gradients
    return truth


def estimate(estimator, model, uniforms):
    """Estimates [R, V, C] for uniforms [R, ...] of one row each."""
    rows = len(uniforms)
    each = copy.copy(model)
    each.logits = tf.Variable(np.tile(model.logits, [rows, 1, 1]))
    each.trainable_variables = [each.logits]
    draws = noise.Noise((tensor(np.reshape(uniforms, [rows, -1])),), 1)
    return rows * estimator.estimate(each, tf.zeros([rows, 1], tf.float64), draws).gradients[0]


def ordered(logits, first, second):
    """Uniforms [C] with which the largest perturbed logits are those of two categories."""
    perturbed = np.zeros(len(logits))
    perturbed[second], perturbed[first] = 1.0, 2.0
    return np.exp(-np.exp(-(perturbed - logits)))


def outcomes(logits, k):
    """Probability and uniforms of each pair of a sample and a category that is not summed."""
    p = np.exp(logits) / np.sum(np.exp(logits))
    order = np.argsort(-p)
    top, rest = order[:k], order[k:]
    for z in top:
        for r in rest:
            yield p[z] * p[r] / np.sum(p[rest]), ordered(logits, z, r)
    for z in rest:
        yield p[z], ordered(logits, z, top[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "estimator", [IndeCateR(), SumAndSample(), SumAndSample(2)], ids=lambda e: e.name
)
def test_the_mean_is_exact(estimator, shape):
    model = categories.Polynomial(True, shape)
    k = min(getattr(estimator, "n_exact", shape[1]), shape[1] - 1)
    cases = [*itertools.product(*(outcomes(row, k) for row in model.logits.numpy()))]
    weights = np.array([np.prod([p for p, _ in case]) for case in cases])
    uniforms = np.array([[u for _, u in case] for case in cases])
    np.testing.assert_allclose(np.sum(weights), 1, rtol=1e-12)
    mean = np.einsum("r,rvc->vc", weights, estimate(estimator, model, uniforms))
    np.testing.assert_allclose(mean, exact(model), atol=1e-12)


def test_without_other_variables_indecater_has_no_variance():
    model = categories.Polynomial(True, (1, 4))
    u = np.random.default_rng(0).uniform(size=(3, 4))
    g = estimate(IndeCateR(), model, u)
    np.testing.assert_allclose(g, np.stack([exact(model)] * 3), atol=1e-12)


def test_sums_over_all_categories_but_one_are_over_all():
    model = categories.Polynomial(True, (3, 4))
    u = np.random.default_rng(1).uniform(size=(5, 12))
    expected = estimate(IndeCateR(), model, u)
    for k in (3, 4, 100):
        np.testing.assert_allclose(estimate(SumAndSample(k), model, u), expected, atol=1e-12)
        assert SumAndSample(k).evaluations([(3, 4)]) == IndeCateR().evaluations([(3, 4)]) == 10
    assert np.max(np.abs(estimate(SumAndSample(2), model, u) - expected)) > 0.1


def test_more_summed_categories_have_less_variance():
    model = categories.Polynomial(True, (2, 6))
    u = np.random.default_rng(2).uniform(size=(4000, 12))
    variances = [np.sum(np.var(estimate(SumAndSample(k), model, u), axis=0)) for k in (1, 3, 5)]
    assert variances[2] < variances[1] < variances[0]


@pytest.mark.parametrize(
    "estimator",
    [IndeCateR(), pytest.param(SumAndSample(), marks=pytest.mark.slow)],
    ids=lambda e: e.name,
)
def test_two_layers(estimator):
    """1.4 million rows detect less than 1 % of the gradient of each tensor."""
    result = compare(estimator, categories.Hierarchy(), times=4)
    assert not result.biased
    assert result.detectable < 0.01
