"""`rebar.tfp.fit_surrogate_posterior`: the optimum of every estimator, options, bad input."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

import rebar
from tests.objectives.sampling import settings

tfd = tfp.distributions
TARGET = [2.0, -1.0]
UNBIASED = [s for s in settings(lambda e: e.unbiased and "bernoulli" in e.families) if s.first]


def log_prob(b):
    return tf.reduce_sum(tfd.Bernoulli(TARGET).log_prob(b), axis=-1)


def bernoulli(logits):
    return tfd.Independent(tfd.Bernoulli(logits), 1)


def fit(optimizer=None, num_steps=3, *, logits=None, posterior=None, estimator="LOO", **options):
    """Return the logits and what `fit_surrogate_posterior` returned."""
    logits = tf.Variable([0.0, 0.0]) if logits is None else logits
    result = rebar.tfp.fit_surrogate_posterior(
        log_prob,
        posterior or bernoulli(logits),
        optimizer or keras.optimizers.Adam(0.1),
        num_steps,
        estimator=estimator,
        **{"sample_size": 2, **options},
    )
    return logits.numpy(), result


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(s, id=str(s), marks=[] if s.label in ("LOO", "REBAR") else pytest.mark.slow)
        for s in UNBIASED
    ],
)
def test_every_unbiased_estimator_finds_the_optimum(setting):
    """Two samples of each of 2000 posteriors with the same variable, also for two-sample bounds."""
    logits = tf.Variable([0.0, 0.0])
    shape = [2000, 2]
    copies = tfp.util.DeferredTensor(logits, lambda v: tf.broadcast_to(v, shape), shape=shape)
    rate = keras.optimizers.schedules.CosineDecay(0.1, 300)
    found, losses = fit(
        *(keras.optimizers.Adam(rate), 300),
        logits=logits,
        posterior=bernoulli(copies),
        estimator=setting.build("float32"),
    )
    np.testing.assert_allclose(found, TARGET, atol=0.02)
    assert losses.shape == (300, 2000)
    assert abs(np.mean(losses[-1])) < 0.01 < np.mean(losses[0])


def test_optimizers_and_modes_agree():
    """TFP's optimizers are those of tf_keras."""
    expected, losses = fit(num_steps=20)
    assert losses.shape == (20,)
    for optimizer, options in [
        (tf_keras.optimizers.Adam(0.1), {}),
        (keras.optimizers.Adam(0.1), {"jit_compile": True}),
    ]:
        found, other = fit(optimizer, 20, **options)
        np.testing.assert_allclose(found, expected, rtol=1e-3)
        np.testing.assert_allclose(other, losses, rtol=1e-3, atol=1e-4)
    assert not np.allclose(fit(num_steps=3, seed=(0, 1))[1], losses[:3])


def test_losses_are_those_of_the_batch():
    """Without Independent, each unit is a member of the batch; the sum of their losses descends."""
    logits = tf.Variable([0.0, 0.0])
    losses = rebar.tfp.fit_surrogate_posterior(
        tfd.Bernoulli(TARGET).log_prob,
        tfd.Bernoulli(logits),
        keras.optimizers.SGD(1.0),
        num_steps=1,
        estimator="Exact",
    )
    p, q = tf.constant(TARGET), tf.zeros([2])
    kl = tfd.kl_divergence(tfd.Bernoulli(q), tfd.Bernoulli(p))
    np.testing.assert_allclose(losses, [kl], rtol=1e-5)
    np.testing.assert_allclose(logits, 0.25 * p, rtol=1e-5)


def test_options_of_tfp():
    """Traces, a criterion of convergence, and some of the variables."""
    first, second = tf.Variable([0.0, 0.0]), tf.Variable([0.0, 0.0])

    def posterior():
        yield tfd.JointDistributionCoroutine.Root(bernoulli(first + second))

    found, trace = fit(
        num_steps=8,
        logits=first,
        posterior=tfd.JointDistributionCoroutine(posterior),
        trainable_variables=[first],
        trace_fn=lambda traced: (traced.loss, traced.has_converged),
        convergence_criterion=tfp.optimizer.convergence_criteria.LossNotDecreasing(
            atol=100.0, min_num_steps=3
        ),
    )
    assert found.any()
    assert not second.numpy().any()
    assert [t.shape for t in trace] == [8, 8]
    assert trace[1].numpy().tolist() == [False] * 3 + [True] * 5


def test_learned_parts():
    """A separate optimizer trains learned parts, also those of an estimator passed by name."""
    values = []
    for optimizer in (None, keras.optimizers.SGD(0.0)):
        estimator = rebar.estimator("REBAR")
        fit(estimator=estimator, control_optimizer=optimizer, num_steps=4)
        values.append(np.concatenate([np.ravel(v) for v in estimator.trainable_variables]))
    assert not np.allclose(*values)
    fit("adam", estimator={"IndependentBernoulli": "NVIL"})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_steps": 0}, "num_steps=0: must be an integer of at least 1"),
        ({"control_optimizer": keras.optimizers.SGD()}, "control_optimizer: LeaveOneOut has no"),
        ({"posterior": bernoulli([0.0, 0.0])}, "surrogate_posterior: does not depend on variables"),
        ({"trainable_variables": [tf.Variable(0.0)]}, "has no gradient; remove it"),
        ({"seed": None}, "seed and step: missing"),
        ({"seed": -1}, "seed=-1: must be an integer"),
        ({"estimator": "LOOO"}, "unknown estimator 'LOOO'; did you mean LOO"),
        ({"sample_size": 1}, "must be at least 2 for LOO"),
        (
            {"posterior": tfd.Independent(tfd.Bernoulli(probs=tf.Variable([0.5, 1.5])), 1)},
            "loss: not finite at the initial variables",
        ),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(rebar.RebarError, match=re.escape(text)):
        fit(**options)


def test_within_a_function():
    with pytest.raises(rebar.RebarError, match=re.escape("called within tf.function")):
        tf.function(fit, autograph=False)()
