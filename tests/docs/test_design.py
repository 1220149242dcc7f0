"""docs/design.md: the formula of the bias of coupling="all" is that of the code.

With eta = 1 the two couplings differ by E[H] = - sum_k E[ S_k sum_{l > k} d log q_l ]. Both sides
are estimated from the same noise in BATCHES batches; seed 0, 300,000 rows. Where the formula holds,
one of the 12 components that are not exactly 0 is beyond 6.5 standard errors with a probability
below 1e-7; the bias is ten times the largest standard error at least.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rebar import noise
from rebar.core import bernoulli, gradients, samplers
from rebar.estimators.base import hard_rollout
from rebar.estimators.rebar import REBAR
from rebar.models.sbn import SigmoidBeliefNetwork

LAYERS, BATCHES, ROWS = 3, 100, 3000


@pytest.fixture
def model():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    network = SigmoidBeliefNetwork((2,) * LAYERS, np.linspace(0.2, 0.7, 6))
    random = np.random.default_rng(77)
    for variable in network.trainable_variables:
        variable.assign(random.normal(size=variable.shape))
    yield network
    keras.config.set_dtype_policy(policy)


def flat(tensors):
    return tf.concat([tf.reshape(t, [-1]) for t in tensors], axis=0)


def formula(model, x, draws, rebar):
    """- mean sum_k S_k sum_{l > k} d log q_l w.r.t. the parameters of q."""
    z = [bernoulli.logistic(u) for u in draws.uniforms]
    with tf.GradientTape() as tape:
        hard = hard_rollout(model, x, draws)
    s = [
        model.rollout(
            x, samplers.relaxed(z, rebar.initial_temperature, True, k, hard.samples)
        ).objective
        for k in range(LAYERS)
    ]
    cotangents = [-sum(s[:layer], tf.zeros_like(s[0])) / ROWS for layer in range(LAYERS)]
    variables = model.inference_variables
    return flat(gradients.gradient_or_zero(tape, list(hard.log_q), variables, cotangents))


def test_bias_of_coupling_all(model):
    x = tf.tile(tf.constant([[1, 0, 1, 1, 0, 1]], tf.float64), [ROWS, 1])
    switch, everywhere = REBAR(coupling="switch"), REBAR(coupling="all")
    for estimator in (switch, everywhere):
        estimator.setup(model)
    of_q = [any(v is q for q in model.inference_variables) for v in model.trainable_variables]

    def encoder_gradient(estimator, draws):
        gradient = estimator.estimate(model, x, draws).gradients
        return flat([g for g, keep in zip(gradient, of_q, strict=True) if keep])

    @tf.function(autograph=False)
    def both(key):
        draws = noise.latents(key, 1, ROWS, model.n_units, tf.float64)
        return encoder_gradient(everywhere, draws) - encoder_gradient(switch, draws), formula(
            model, x, draws, switch
        )

    pairs = [both(noise.key(0, "analysis", i)) for i in range(BATCHES)]
    measured, expected = (np.stack(side) for side in zip(*pairs, strict=True))
    difference = measured - expected
    error = difference.std(axis=0, ddof=1) / np.sqrt(BATCHES)
    bias = expected.mean(axis=0)

    layer_0 = 6 * 2 + 2
    np.testing.assert_allclose(difference[:, :layer_0], 0, atol=1e-12)
    np.testing.assert_allclose(bias[:layer_0], 0, atol=1e-12)
    assert np.max(np.abs(difference.mean(axis=0)) / np.maximum(error, 1e-12)) < 6.5
    for above in (bias[layer_0 : layer_0 + 6], bias[layer_0 + 6 :]):
        assert np.max(np.abs(above)) > 0.2
    assert np.max(error) < 0.02
