"""Distributions of TensorFlow Probability as sites of an objective."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import rebar
from tests.objectives import problems

(X,) = problems.mixed().args


def test_sites_of_a_distribution_equal_those_of_logits():
    distributions = tfp.distributions

    def by_distribution(sample, x):
        b = sample("b", distributions.Independent(distributions.Bernoulli(x, dtype=x.dtype), 1))
        c = sample("c", distributions.OneHotCategorical(b + x, dtype=x.dtype))
        return tf.reduce_sum(b * c, axis=1) - sample.log_q

    def by_logits(sample, x):
        b = sample.bernoulli("b", x)
        c = sample.categorical("c", b + x)
        return tf.reduce_sum(b * c, axis=1) - sample.log_q

    values = [
        rebar.estimate(f, X, estimator="REINFORCE", seed=0, step=0).value
        for f in (by_distribution, by_logits)
    ]
    np.testing.assert_array_equal(*values)


def test_rows_of_distributions():
    """Parameters without rows, or with one, are shared; each row has its own sample."""
    tfd = tfp.distributions
    distributions = [
        (tfd.Normal(0.0, 1.0), [40]),
        (tfd.Normal(tf.zeros([1, 3]), 1.0), [40, 3]),
        (tfd.Normal(tf.zeros([40, 3]), 1.0), [40, 3]),
        (tfd.Independent(tfd.Normal([0.0, 1.0], 1.0), 1), [40, 2]),
        (tfd.Bernoulli(probs=0.5), [40]),
        (tfd.Independent(tfd.Bernoulli([0.0, 1.0]), 1), [40, 2]),
        (tfd.Bernoulli(tf.zeros([1, 3])), [40, 3]),
        (tfd.OneHotCategorical(tf.zeros([4])), [40, 4]),
        (tfd.Categorical(tf.zeros([4])), [40]),
        (tfd.Independent(tfd.Categorical(tf.zeros([1, 2, 4])), 1), [40, 2]),
    ]

    def objective(sample):
        for i, (distribution, _) in enumerate(distributions):
            sample(str(i), distribution)
        return sample.log_q

    result = rebar.estimate(objective, n_samples=40, seed=0, step=0)
    for i, (distribution, shape) in enumerate(distributions):
        value = result.samples[str(i)]
        assert value.shape == shape, distribution
        assert len(np.unique(value, axis=0)) > 1, distribution
        kind = tf.int32 if "Categorical" in repr(distribution) and i >= 8 else tf.float32
        assert value.dtype == kind, distribution
    values = [tf.cast(result.samples[str(i)], d.dtype) for i, (d, _) in enumerate(distributions)]
    log_q = sum(
        tf.reduce_sum(tf.reshape(d.log_prob(v), [40, -1]), axis=1)
        for v, (d, _) in zip(values, distributions, strict=True)
    )
    np.testing.assert_allclose(result.value, [tf.reduce_mean(log_q)], rtol=1e-5)
