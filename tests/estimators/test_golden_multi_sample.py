"""VIMCO and local DisARM against numbers of the DisARM authors' code, and enumeration of both."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rebar.core import enumeration
from rebar.estimators.local_disarm import LocalDisARM
from rebar.estimators.vimco import VIMCO
from rebar.models.likelihoods import output_bias
from rebar.models.sbn import SigmoidBeliefNetwork
from rebar.noise import Noise
from tests.conformance.cases import float64, tensor

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "disarm" / "disarm_tiny_raw.npz")
EXAMPLES = ([0], [1], [2], [0, 1, 2])


@pytest.fixture
def model():
    """The recorded model, which sees x and b as they are; ours sees x - mean and 2 b - 1."""
    mean = GOLDEN["mean_x"]
    model = SigmoidBeliefNetwork((4,), mean)
    q, q_bias, p, p_bias = GOLDEN["W_enc"], GOLDEN["b_enc"], GOLDEN["W_dec"], GOLDEN["b_dec"]
    values = {
        "prior/logits": GOLDEN["prior_logits"],
        "q_0/kernel": q,
        "q_0/bias": q_bias + mean @ q,
        "p_0/kernel": p / 2,
        "p_0/bias": p_bias + p.sum(axis=0) / 2 - output_bias(mean),
    }
    for v in model.trainable_variables:
        v.assign(values.pop("/".join(v.path.split("/")[-2:])))
    assert not values
    return model


def of_q(model, gradients):
    """Gradients of q's kernel and bias."""
    by_id = dict(zip(map(id, model.trainable_variables), gradients, strict=True))
    return [by_id[id(v)] for v in model.inference_variables]


def assert_logit_gradient(model, gradients, examples, golden):
    """The loss' gradient of q is that of golden ascent directions [B, H] of the logits."""
    kernel, bias = of_q(model, gradients)
    x = GOLDEN["x"][examples] - GOLDEN["mean_x"]
    scale = np.max(np.abs(golden))
    np.testing.assert_allclose(kernel, -x.T @ golden / len(examples), rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(bias, -golden.mean(axis=0), rtol=0, atol=1e-13 * scale)


def rows(u, examples):
    """Uniforms [K, B, H] as rows of the noise of some examples."""
    return tensor(np.reshape(u[:, examples], [-1, u.shape[-1]]))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_vimco(model, examples):
    # There b = 1[u < p].
    noise = Noise((rows(1 - GOLDEN["vimco_u"], examples),), 4)
    estimate = VIMCO().estimate(model, tensor(GOLDEN["x"][examples]), noise)
    f = GOLDEN["vimco_f"][:, examples]
    np.testing.assert_allclose(np.reshape(estimate.objective, f.shape), f, rtol=1e-13)
    np.testing.assert_allclose(
        estimate.metrics["multi_sample_bound"], GOLDEN["vimco_bound"][examples].mean(), rtol=1e-13
    )
    assert_logit_gradient(model, estimate.gradients, examples, GOLDEN["vimco_grad"][examples])


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", ["localdisarm", "localdisarm_sym"])
def test_local_disarm(model, name, examples):
    u = GOLDEN["localdisarm_u"]
    noise = Noise((rows(np.concatenate([u, np.full_like(u, 0.3)]), examples),), 6)
    estimator = LocalDisARM(symmetrized=name == "localdisarm_sym")
    estimate = estimator.estimate(model, tensor(GOLDEN["x"][examples]), noise)
    f = GOLDEN["localdisarm_f"][:, examples]
    np.testing.assert_allclose(np.reshape(estimate.objective, f.shape), f, rtol=1e-13)
    np.testing.assert_allclose(
        estimate.metrics["multi_sample_bound"],
        GOLDEN["localdisarm_bound"][examples].mean(),
        rtol=1e-13,
    )
    assert_logit_gradient(model, estimate.gradients, examples, GOLDEN[f"{name}_grad"][examples])


@pytest.mark.parametrize("n_samples", [2, 4])
def test_enumeration(model, n_samples):
    x = GOLDEN["x"]
    result = enumeration.bound_and_gradient(model, x, n_samples)
    np.testing.assert_allclose(result.value, GOLDEN[f"exact_K{n_samples}_bound"], rtol=1e-12)
    golden = GOLDEN[f"exact_K{n_samples}_grad"]
    kernel, bias = of_q(model, result.gradients)
    np.testing.assert_allclose(bias, -golden.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(kernel, -(x - GOLDEN["mean_x"]).T @ golden / 3, atol=1e-12)


def moments(estimator, model, example, outcomes, weights, n_samples):
    """Mean and variance [H] of the ascent direction of one example's logits, over all outcomes.

    Args:
      outcomes: [n, rows, H] uniforms that represent all others with the same samples.
      weights: [n] their probabilities.
    """
    x = tensor(GOLDEN["x"][[example]])

    def one(uniforms):
        estimate = estimator.estimate(model, x, Noise((uniforms,), n_samples))
        return -of_q(model, estimate.gradients)[1]

    every = tf.function(lambda: tf.map_fn(one, tensor(outcomes)))().numpy()
    mean = weights @ every
    return mean, weights @ np.square(every) - np.square(mean)


def products(values, probabilities, units):
    """All combinations of per-unit values: [n, units] and their probabilities [n].

    Args:
      values: [m], the same for every unit.
      probabilities: [units, m].
    """
    index = np.stack(np.unravel_index(np.arange(len(values) ** units), [len(values)] * units), 1)
    return np.array(values)[index], np.prod(probabilities[np.arange(units), index], axis=1)


@pytest.mark.parametrize("example", [0, 1, 2])
def test_moments_of_vimco(model, example):
    p = np.tile(GOLDEN["probs"][example], 2)
    outcomes, weights = products([1e-9, 1 - 1e-9], np.stack([1 - p, p], axis=1), 8)
    mean, variance = moments(VIMCO(), model, example, np.reshape(outcomes, [-1, 2, 4]), weights, 2)
    np.testing.assert_allclose(mean, GOLDEN["exact_K2_vimco_mean"][example], atol=1e-11)
    np.testing.assert_allclose(mean, GOLDEN["exact_K2_grad"][example], atol=1e-11)
    np.testing.assert_allclose(variance, GOLDEN["exact_K2_vimco_var"][example], atol=1e-11)


@pytest.mark.parametrize("name", ["localdisarm", "localdisarm_sym"])
def test_moments_of_local_disarm(model, name):
    """A unit's pair is (0, 1), (1, 0), or agrees: three outcomes for each of 2 * 4 units."""
    p = np.tile(GOLDEN["probs"][0], 2)
    low = np.minimum(p, 1 - p)
    outcomes, weights = products([1e-9, 1 - 1e-9, 0.5], np.stack([low, low, 1 - 2 * low], 1), 8)
    main = np.reshape(outcomes, [-1, 2, 4])
    noise = np.concatenate([main, np.full_like(main, 0.3)], axis=1)
    estimator = LocalDisARM(symmetrized=name == "localdisarm_sym")
    mean, variance = moments(estimator, model, 0, noise, weights, 4)
    np.testing.assert_allclose(mean, GOLDEN[f"exact_K2_{name}_mean"][0], atol=1e-11)
    np.testing.assert_allclose(mean, GOLDEN["exact_K2_grad"][0], atol=1e-11)
    np.testing.assert_allclose(variance, GOLDEN[f"exact_K2_{name}_var"][0], atol=1e-11)
