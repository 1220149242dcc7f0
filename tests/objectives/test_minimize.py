"""The loss of `rebar.estimate` in an optimizer of TensorFlow Probability."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import rebar


def test_tfp_minimize():
    """Black-box optimization: the logits are the only variable, without arguments."""
    logits = tf.Variable(tf.zeros([1, 5]))
    count = tf.Variable(0)
    target = tf.constant([1.0, 0.0, 1.0, 1.0, 0.0])

    def reward(sample):
        return -tf.reduce_sum(tf.square(sample.bernoulli("b", logits) - target), axis=1)

    def loss():
        with tf.control_dependencies([count.assign_add(1)]):
            step = count.read_value()
        return rebar.estimate(reward, estimator="LOO", n_samples=8, seed=0, step=step).loss

    optimizer = tf.optimizers.Adam(0.1)
    optimizer.build([logits])

    losses = tfp.math.minimize(
        loss, num_steps=60, optimizer=optimizer, trainable_variables=[logits]
    )
    assert losses[-1] < 0.5 < losses[0]
    np.testing.assert_array_equal(logits > 0, target[tf.newaxis] > 0)
