"""ARM, DisARM and leave-one-out against the numbers of the DisARM paper's code, float64.

The recorded network takes images and samples as they are, ours centred images and 2 b - 1: other
weights make them one and the same function.
"""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from rebar.core import bernoulli, logit_gradients
from rebar.estimators.antithetic import ARM, DisARM, antithetic_objective
from rebar.estimators.base import hard_rollout
from rebar.estimators.leave_one_out import LeaveOneOut
from rebar.models.likelihoods import output_bias
from rebar.models.sbn import SigmoidBeliefNetwork
from rebar.noise import Noise
from tests.quadrature import moments, states, uniforms

FOLDER = Path(__file__).parents[1] / "goldens" / "disarm"
UNITS = 4


def load(name):
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


TINY, TOY = load("disarm_tiny_raw"), load("disarm_toy")
X = tf.constant(TINY["x"])


@pytest.fixture
def model():
    """A float64 network that is the recorded one; its mean 0 leaves images as they are."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    mean = np.zeros(X.shape[1])
    network = SigmoidBeliefNetwork((UNITS,), mean)
    assert not TINY["demean"]
    values = [
        TINY["prior_logits"],
        TINY["W_enc"],
        TINY["b_enc"],
        TINY["W_dec"] / 2,
        TINY["b_dec"] + TINY["W_dec"].sum(axis=0) / 2 - output_bias(mean),
    ]
    for variable, value in zip(network.trainable_variables, values, strict=True):
        variable.assign(value)
    yield network
    keras.config.set_dtype_policy(policy)


def close(ours, golden):
    np.testing.assert_allclose(ours, golden, rtol=1e-10, atol=1e-12)


def encoder_gradients(estimator, model, noise):
    """dW and db of the loss, summed over the batch."""
    estimate = estimator.estimate(model, X, noise)
    batch = X.shape[0]
    result = {id(v): g for v, g in zip(model.trainable_variables, estimate.gradients, strict=True)}
    return [batch * result[id(v)] for v in model.inference_variables]


@pytest.mark.parametrize(("name", "cls"), [("arm", ARM), ("disarm", DisARM)])
def test_pairs(model, name, cls):
    noise = Noise((tf.constant(TINY["u"]),))
    hard = hard_rollout(model, X, noise)
    close(hard.logits[0], TINY["logits"])
    np.testing.assert_array_equal(hard.samples[0], TINY[f"{name}_b"])
    close(hard.objective, TINY[f"{name}_f"])
    f_antithetic, b_antithetic = antithetic_objective(model, X, noise, hard, 0)
    np.testing.assert_array_equal(b_antithetic, TINY[f"{name}_b_tilde"])
    close(f_antithetic, TINY[f"{name}_f_tilde"])

    estimator = cls()
    estimate = estimator.estimate(model, X, noise)
    close(estimate.objective, TINY[f"{name}_f"])
    kernel, bias = encoder_gradients(estimator, model, noise)
    close(kernel, TINY[f"{name}_dW_enc_loss"])
    close(bias, TINY[f"{name}_db_enc_loss"])


def test_logit_gradients_of_pairs():
    f, f_antithetic, u = (tf.constant(TINY[key]) for key in ("arm_f", "arm_f_tilde", "u"))
    close(logit_gradients.arm(f, f_antithetic, u), TINY["arm_grad"])
    keys = ("f", "f_tilde", "b", "b_tilde")
    values = [tf.constant(TINY[f"disarm_{key}"]) for key in keys]
    close(logit_gradients.disarm(*values, tf.constant(TINY["logits"])), TINY["disarm_grad"])


def test_leave_one_out(model):
    """The recorded samples are 1[u < p], ours 1[u > 1 - p]: 1 - u for u."""
    noise = Noise((tf.constant(1 - TINY["u_two"]),), n_samples=2)
    hard = hard_rollout(model, X, noise)
    np.testing.assert_array_equal(hard.samples[0], [*TINY["loo_b1"], *TINY["loo_b2"]])
    close(hard.objective, [*TINY["loo_f1"], *TINY["loo_f2"]])
    kernel, bias = encoder_gradients(LeaveOneOut(), model, noise)
    close(kernel, TINY["loo_dW_enc_loss"])
    close(bias, TINY["loo_db_enc_loss"])

    signal = logit_gradients.leave_one_out(tf.constant([TINY["loo_f1"], TINY["loo_f2"]]))
    each = [
        logit_gradients.reinforce(signal[k], tf.constant(TINY[f"loo_b{k + 1}"]), TINY["logits"])
        for k in range(2)
    ]
    close(np.mean(each, axis=0), TINY["loo_grad"])


def test_reinforce():
    b, f = tf.constant(TINY["reinforce_b"]), tf.constant(TINY["reinforce_f"])
    result = logit_gradients.reinforce(f, b, tf.constant(TINY["logits"]))
    close(result, TINY["reinforce_grad"])


# Exact means and variances, by integration over the noise.


def estimates(f, logits):
    """Name -> (estimates [n, H], weights [n]) of f: [n, H] -> [n] at logits [H]."""
    u, weights = uniforms(logits)
    z = bernoulli.logistic(tf.constant(u))
    tiled = tf.broadcast_to(tf.constant(logits), z.shape)
    b, b_antithetic = bernoulli.hard_sample(tiled, z), bernoulli.hard_sample(tiled, -z)
    values = f(b.numpy()), f(b_antithetic.numpy())
    two, of_two = states([*logits, *logits])
    first, second = np.split(two, 2, axis=1)
    signal = logit_gradients.leave_one_out(tf.constant(np.stack([f(first), f(second)])))
    loo = [
        logit_gradients.reinforce(s, tf.constant(sample), tf.constant(logits)).numpy()
        for s, sample in zip(tf.unstack(signal), (first, second), strict=True)
    ]
    values = [tf.constant(v) for v in values]
    return {
        "arm": (logit_gradients.arm(*values, tf.constant(u)).numpy(), weights),
        "disarm": (logit_gradients.disarm(*values, b, b_antithetic, tiled).numpy(), weights),
        "loo": (np.mean(loo, axis=0), of_two),
    }


def assert_moments(f, logits, gradient, variances):
    """The mean is the gradient for each, the variance the recorded one."""
    result = estimates(f, logits)
    for name, (values, weights) in result.items():
        mean, variance = moments(values, weights)
        np.testing.assert_allclose(mean, gradient, rtol=1e-9, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(variance, variances[name], rtol=1e-9, atol=1e-15, err_msg=name)
    assert np.all(moments(*result["disarm"])[1] <= moments(*result["arm"])[1])


def recorded_f(example):
    """f [n, H] -> [n] of the tiny model, from the recorded table over all states."""
    order = {tuple(state): i for i, state in enumerate(TINY["all_states"])}
    return lambda b: TINY["f_all"][example][[order[tuple(state)] for state in b]]


@pytest.mark.parametrize("example", range(3))
def test_exact_variances_of_the_tiny_model(example):
    recorded = {n: TINY[f"exact_var_{n}"][example] for n in ("arm", "disarm", "loo")}
    logits, gradient = TINY["logits"][example], TINY["exact_grad"][example]
    assert_moments(recorded_f(example), logits, gradient, recorded)


@pytest.mark.parametrize("target", range(5))
def test_exact_variances_of_one_unit(target):
    """f = (b - p0)^2."""

    def f(b):
        return np.square(b[:, 0] - TOY["d1_p0"][target])

    for i, logit in enumerate(TOY["d1_phi"]):
        recorded = {n: TOY[f"d1_var_{n}"][target, i] for n in ("arm", "disarm", "loo")}
        assert_moments(f, np.array([logit]), TOY["d1_grad"][target, i], recorded)


@pytest.mark.parametrize("toy", ["sum45_h4", "quad_h4", "quad_h6"])
def test_exact_variances_of_toys(toy):
    def f(b):
        if toy == "sum45_h4":
            return np.sum(np.square(b - 0.45), axis=1)
        a, c, k = (TOY[f"{toy}_{name}"] for name in "Ack")
        return np.einsum("ni,ij,nj->n", b, a, b) + b @ c + k

    recorded = {n: TOY[f"{toy}_var_{n}"] for n in ("arm", "disarm", "loo")}
    assert_moments(f, TOY[f"{toy}_logits"], TOY[f"{toy}_grad"], recorded)


def test_fault_no_mask_where_the_pair_agrees(monkeypatch):
    """The mean stays right: where a unit agrees, the two roles of the pair cancel.

    So no comparison of means can find it; those with recorded numbers and variances do.
    """

    def without_mask(f, f_antithetic, b, b_antithetic, logits):
        sign = 1 - 2 * b_antithetic
        return 0.5 * (f - f_antithetic)[:, None] * sign * tf.sigmoid(tf.abs(logits))

    monkeypatch.setattr(logit_gradients, "disarm", without_mask)
    with pytest.raises(AssertionError):
        test_logit_gradients_of_pairs()
    mean, variance = moments(*estimates(recorded_f(0), TINY["logits"][0])["disarm"])
    np.testing.assert_allclose(mean, TINY["exact_grad"][0], rtol=1e-9)
    larger = variance / TINY["exact_var_disarm"][0]
    assert np.all(larger > 1.02)
    assert np.any(larger > 5)
