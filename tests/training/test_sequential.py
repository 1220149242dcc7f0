"""Graphs whose operations run one after the other."""

import numpy as np
import tensorflow as tf

from rebar.training.sequential import Sequential


def test_the_result_is_that_of_the_function():
    variable = tf.Variable(2.0)

    def function(x, pair, nothing):
        assert nothing is None
        with tf.control_dependencies([variable.assign_add(1.0)]):
            return x * variable + pair[0] - pair[1]

    sequential = Sequential(function)
    arguments = tf.constant([1.0, 2.0]), (tf.constant(5.0), tf.constant(1.0)), None
    np.testing.assert_array_equal(sequential(*arguments), [7, 10])
    np.testing.assert_array_equal(sequential(*arguments), [8, 12])
    assert variable == 4


def test_loops_run_too():
    def function(n):
        return tf.while_loop(lambda i, _: i < n, lambda i, s: (i + 1, s + i), (0, 0))[1]

    assert Sequential(function)(tf.constant(5)) == 10
