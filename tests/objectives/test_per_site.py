"""Different estimators for the sites of one objective, by enumeration of three sites.

b (2 units) -> c (2 variables of 3 categories) -> d (2 units); f is not linear in any of them.
"""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.errors import RebarError
from rebar.testing.comparison import LARGEST_UNSEEN_BIAS, summarize

RANDOM = np.random.default_rng(5)
A, B, C = (tf.Variable(RANDOM.normal(size=shape)) for shape in ((3, 2), (2, 6), (6, 2)))
W = tf.Variable(RANDOM.normal(size=(10,)))
VARIABLES = [A, B, C, W]
X = tf.constant(RANDOM.normal(size=(2, 3)))
COPIES, STEPS = 2000, 60


def logits_of_b(x):
    return x @ A


def logits_of_c(b):
    return tf.reshape(b @ B, [-1, 2, 3])


def logits_of_d(c):
    return tf.reshape(c, [-1, 6]) @ C


def reward(b, c, d):
    h = tf.concat([b, tf.reshape(c, [-1, 6]), d], axis=1)
    return 2 * tf.sin(2 * tf.linalg.matvec(h, W)) + b[:, 0] * c[:, 1, 2] * d[:, 1]


def objective(sample, x):
    b = sample.bernoulli("b", logits_of_b(x))
    c = sample.categorical("c", logits_of_c(b))
    d = sample.bernoulli("d", logits_of_d(c))
    return reward(b, c, d) - sample.log_q


def log_bernoulli(b, logits):
    return tf.reduce_sum(b * logits - tf.nn.softplus(logits), axis=1)


def exact():
    """Gradients of -mean f by enumeration of all 144 states of each example."""
    states = list(itertools.product((0, 1), (0, 1), range(3), range(3), (0, 1), (0, 1)))
    s = np.array(states)
    b, d = tf.constant(s[:, :2], tf.float64), tf.constant(s[:, 4:], tf.float64)
    c = tf.one_hot(s[:, 2:4], 3, dtype=tf.float64)
    with tf.GradientTape() as tape:
        total = 0.0
        for i in range(len(X)):
            log_q = log_bernoulli(b, tf.repeat(logits_of_b(X[i : i + 1]), len(s), axis=0))
            log_q += tf.reduce_sum(c * tf.nn.log_softmax(logits_of_c(b)), axis=[1, 2])
            log_q += log_bernoulli(d, logits_of_d(c))
            total -= tf.reduce_sum(tf.exp(log_q) * (reward(b, c, d) - log_q)) / len(X)
    return tape.gradient(total, VARIABLES)


def comparison(estimator, n_samples=2):
    x = tf.tile(X, [COPIES, 1])
    options = {"estimator": estimator, "n_samples": n_samples, "seed": 1}
    rebar.estimate(objective, X, step=0, **options)  # creates variables, else traced twice

    @tf.function(autograph=False)
    def gradients(step):
        with tf.GradientTape() as tape:
            loss = rebar.estimate(objective, x, step=step, **options).loss
        return tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(loss, VARIABLES)], axis=0)

    values = np.stack([gradients(tf.constant(step)) for step in range(STEPS)])
    names = ["A", "B", "C", "W"]
    return summarize(values, exact(), names, STEPS * COPIES * len(X) * n_samples)


def learned(name):
    return rebar.estimator(name, dtype="float64")


MIXTURES = {
    "values only": lambda: {"b": "DisARM", "c": "LOO", "d": "ARM"},
    "relaxed above": lambda: {"b": "LOO", "c": learned("DynamicREBAR"), "d": "REINFORCE"},
    "relaxed below": lambda: {"b": learned("RELAX"), "c": "LOO", "d": "DisARM"},
    "learned": lambda: {"b": learned("NVIL"), "c": learned("MuProp"), "d": learned("REBAR")},
    "derivatives": lambda: {"b": learned("RODEO"), "c": "LOO", "d": learned("DoubleCV")},
    "shared": lambda: dict.fromkeys("bcd", learned("REBAR")),
    "two by one": lambda: {"b": (disarm := rebar.estimator("DisARM")), "c": "LOO", "d": disarm},
}


@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_of_unbiased_estimators(name):
    """Critical value: see `rebar.testing.comparison`; detectable bias too."""
    result = comparison(MIXTURES[name]())
    assert not result.biased, result
    assert result.detectable < LARGEST_UNSEEN_BIAS


@pytest.mark.parametrize("through", ["ReinMax", "Gumbel"])
def test_a_biased_site_is_declared_and_seen(through):
    mixture = {"b": "DisARM", "c": through, "d": "LOO"}
    result = comparison(mixture)
    estimate = rebar.estimate(objective, X, estimator=mixture, n_samples=2, seed=0, step=0)
    assert not estimate.unbiased
    assert result.biased


def test_all_sites_with_differentiable_samples_are_one_pathwise_gradient():
    mixture = {"b": "ST", "c": "ReinMax", "d": "ST"}
    estimate = rebar.estimate(objective, X, estimator=mixture, seed=0, step=0)
    assert estimate.evaluations == 1
    for site in "bcd":
        assert set(np.unique(estimate.samples[site])) <= {0, 1}


def test_evaluations_are_shared_and_skipped():
    """One hard rollout for all; DisARM adds one for its site, REBAR another."""
    calls = []

    def counted(sample, x):
        calls.append(1)
        return objective(sample, x)

    mixture = {"b": "DisARM", "c": "LOO", "d": learned("REBAR")}
    for step in range(2):  # the first call also finds the sites
        calls.clear()
        estimate = rebar.estimate(counted, X, estimator=mixture, n_samples=2, seed=0, step=step)
    assert estimate.evaluations == 2 * (1 + 1 + 1)
    assert len(calls) == 3


def test_learned_parts_of_members_train():
    rebar_of_c = learned("DynamicREBAR")
    with tf.GradientTape() as tape:
        estimate = rebar.estimate(
            objective,
            X,
            estimator={"b": "REINFORCE", "c": rebar_of_c, "d": "REINFORCE"},
            seed=0,
            step=0,
        )
    gradients = tape.gradient(estimate.control_loss, rebar_of_c.trainable_variables)
    assert all(np.any(g != 0) for g in gradients)
    assert set(estimate.metrics) >= {"signal_rms/b", "temperature/c"}


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({}, r"estimator=\{\}: must have an estimator per site"),
        ({"b": "LOO", "c": "LOO"}, "site 'd': has no estimator"),
        ({"b": "LOO", "c": "LOO", "d": "LOO", "e": "LOO"}, "site 'e': unknown; the sites are b, c"),
        ({"b": "LOO", "c": "DisARM", "d": "LOO"}, "site 'c': DisARM does not support categorical"),
        ({"b": "LOO", "c": "VIMCO", "d": "LOO"}, "follow different objectives"),
        ({"b": "LOO", "c": "NVIL", "d": "LOO"}, "estimator='NVIL': has learned parts"),
        ({"b": "LOO", "c": 3, "d": "LOO"}, "estimator=3: must be a name or an instance"),
    ],
)
def test_refusals(mixture, message):
    with pytest.raises(RebarError, match=message):
        rebar.estimate(objective, X, estimator=mixture, n_samples=2, seed=0, step=0)


def test_a_site_under_a_relaxed_one_need_not_be_differentiable():
    def f(sample, x):
        b = sample.bernoulli("b", x)
        index = tf.cast(tf.reduce_sum(b, axis=1), tf.int32)  # no derivative
        c = sample.categorical("c", tf.one_hot(index, 4, dtype=x.dtype))
        return tf.reduce_sum(c * tf.constant([1.0, 3.0, 2.0, 5.0], x.dtype), axis=1)

    x = tf.constant(RANDOM.normal(size=(2, 3)))
    below = rebar.estimate(
        f, x, estimator={"b": "LOO", "c": learned("REBAR")}, n_samples=2, seed=0, step=0
    )
    assert np.all(np.isfinite(below.value))
    with pytest.raises(RebarError, match="site 'b': f has no derivative"):
        rebar.estimate(
            f, x, estimator={"b": learned("REBAR"), "c": "LOO"}, n_samples=2, seed=0, step=0
        )
