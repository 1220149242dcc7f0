"""f may be any function of log q: its gradient is that of the sum over all states.

A derivative is left out of the gradient only where its mean is zero, which depends on f.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.errors import RebarError
from rebar.testing.comparison import LARGEST_UNSEEN_BIAS, summarize

P = tf.Variable([[0.5, -0.4, 0.2]], dtype=tf.float64)
W = tf.constant([1.0, -2.0, 0.7], tf.float64)
ROWS, STEPS = 20_000, 50

FUNCTIONS = {
    "ELBO": lambda b, lq: tf.linalg.matvec(b, W) - lq,
    "weighted": lambda b, lq: tf.linalg.matvec(b, W) - 0.1 * lq,
    "log variance": lambda b, lq: -tf.square(tf.linalg.matvec(b, W) - lq),
    "weight of samples": lambda b, lq: b[:, 0] * lq,
    "clipped": lambda b, lq: tf.minimum(tf.linalg.matvec(b, W) - lq, 1),
    "power of a ratio": lambda b, lq: tf.exp(0.5 * (tf.linalg.matvec(b, W) - lq)),
}


def exact(function):
    b = tf.constant(list(itertools.product((0, 1), repeat=3)), tf.float64)
    with tf.GradientTape() as tape:
        log_q = tf.reduce_sum(b * P - tf.nn.softplus(P), axis=1)
        loss = -tf.reduce_sum(tf.exp(log_q) * function(b, log_q))
    return tape.gradient(loss, P)


def objective(function):
    def f(sample, _):
        b = sample.bernoulli("b", P)
        return function(b, sample.log_q)

    return f


def gradient(function, estimator, rows, step):
    with tf.GradientTape() as tape:
        loss = rebar.estimate(
            objective(function),
            tf.zeros([rows, 1]),
            estimator=estimator,
            n_samples=2,
            seed=0,
            step=step,
        ).loss
    return tape.gradient(loss, P)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_sum_over_states(name):
    found = gradient(FUNCTIONS[name], "Exact", 2, 0)
    np.testing.assert_allclose(found, exact(FUNCTIONS[name]), atol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("estimator", ["LOO", "DisARM", "REBAR"])
def test_samples(estimator, name):
    """Bounds of `rebar.testing.comparison`: total false-fail rate 1e-6."""
    member = rebar.estimator(estimator, dtype="float64")
    gradient(FUNCTIONS[name], member, 2, 0)  # creates the learned parts

    @tf.function(autograph=False)
    def run(step):
        return gradient(FUNCTIONS[name], member, ROWS, step)[0]

    values = np.stack([run(tf.constant(step)) for step in range(STEPS)])
    result = summarize(values, [exact(FUNCTIONS[name])], ["P"], 2 * ROWS * STEPS)
    assert not result.biased, result
    assert result.detectable < LARGEST_UNSEEN_BIAS


def test_rows_of_one_example():
    """The derivative is kept where no other row shows its factor."""
    values = [gradient(FUNCTIONS["clipped"], "REINFORCE", 1, step) for step in range(3)]
    assert np.all(np.isfinite(values))


def test_an_estimator_as_an_attribute_of_a_keras_model():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = keras.layers.Dense(3)
            self.estimator = rebar.estimator("NVIL")

        def train_step(self, x):
            with tf.GradientTape(persistent=True) as tape:
                estimate = rebar.estimate(
                    lambda sample, v: tf.reduce_sum(sample.bernoulli("b", self.encoder(v)), 1),
                    x,
                    estimator=self.estimator,
                    seed=0,
                    step=self.optimizer.iterations.value,
                )
            weights = self.encoder.trainable_variables
            self.optimizer.apply(tape.gradient(estimate.loss, weights), weights)
            return {"value": tf.reduce_mean(estimate.value)}

    model = Model()
    x = np.ones([8, 2], "float32")
    model.encoder.build([None, 2])
    model.compile(keras.optimizers.Adam(0.1), run_eagerly=True)
    values = model.fit(x, batch_size=8, epochs=20, verbose=0).history["value"]
    assert np.mean(values[-5:]) > np.mean(values[:5])


def test_constants_and_refusals():
    f = objective(FUNCTIONS["ELBO"])
    x = tf.zeros([2, 1])
    with tf.GradientTape() as tape:
        value = rebar.estimate(f, x, estimator="LOO", n_samples=2, seed=0, step=0).value
    assert tape.gradient(value, P) is None
    with tf.GradientTape() as outer:
        with tf.GradientTape() as tape:
            loss = rebar.estimate(f, x, estimator="LOO", n_samples=2, seed=0, step=0).loss
        square = tf.reduce_sum(tf.square(tape.gradient(loss, P)))
    with pytest.raises(RebarError, match="second derivatives"):
        outer.gradient(square, P)
    with pytest.raises(RebarError, match="objective: is a tf"):
        rebar.estimate(tf.function(f), x, estimator="LOO", n_samples=2, seed=0, step=0)
    with pytest.raises(RebarError, match="has no sample site"):
        rebar.estimate(lambda sample, x: x[:, 0], x, seed=0, step=0)
    numbers = rebar.estimate(f, x, estimator="LOO", n_samples=np.int64(2), seed=0, step=0)
    assert numbers.value.shape == (2,)


def test_keras_variables_are_no_rows():
    weights = keras.Variable(np.ones([3, 4], "float32"))

    def f(sample, x, w):
        assert w is weights
        return tf.reduce_sum(sample.bernoulli("b", x @ w.value), axis=1)

    estimate = rebar.estimate(f, tf.zeros([2, 3]), weights, estimator="REINFORCE", seed=0, step=0)
    assert estimate.value.shape == (2,)
