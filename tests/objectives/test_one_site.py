"""`rebar.estimate_gradient` and `rebar.estimate` of one site: equal numbers from equal noise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise

SHAPES = {"bernoulli": [5, 3], "categorical": [5, 2, 3]}
LABELS = {
    "bernoulli": [
        *("REINFORCE", "LOO", "DoubleCV", "ARM", "DisARM", "ARMS", "LEG", "REBAR"),
        *("RELAX", "Gumbel", "Exact"),
    ],
    "categorical": [
        *("REINFORCE", "LOO", "DoubleCV", "REBAR", "RELAX", "Gumbel", "Exact"),
        *("ST", "ST-GS", "GST", "ReinMax"),
    ],
}
OPTIONS = {"temperature": 0.7}


def problem(family):
    """f, logits, and the rows of uniforms of an estimate with K samples."""
    random = np.random.default_rng(4)
    shape = SHAPES[family]
    weights = tf.constant(random.normal(size=[*shape[1:], 6]))
    logits = tf.constant(random.normal(size=shape))

    def f(b):
        return tf.reduce_sum(tf.tanh(tf.tensordot(b, weights, len(shape) - 1)), axis=-1)

    def uniforms(n_samples=1, further=0):
        drawn = noise.of_sites(0, 3, n_samples)
        rows = drawn.uniforms.at(0, [n_samples * 5, *shape[1:]], "float64")
        if further:
            others = noise.uniforms(noise.further_key(drawn, 16), [further, *shape], "float64")
            return tf.concat([rows[tf.newaxis], others], axis=0)
        return rows if n_samples == 1 else tf.reshape(rows, [n_samples, *shape])

    return f, logits, uniforms


CASES = [
    (family, label, n_samples)
    for family, labels in LABELS.items()
    for label in labels
    for n_samples in ([2, 12] if label in ("LOO", "DoubleCV") else [1])
]


@pytest.mark.parametrize(("family", "label", "n_samples"), CASES)
def test_both_interfaces_agree(family, label, n_samples):
    f, logits, uniforms = problem(family)
    tempered = label in ("REBAR", "RELAX", "Gumbel")
    estimator = rebar.estimator(label, dtype="float64", **(OPTIONS if tempered else {}))
    # REBAR's baseline, of the argument: initially 0.
    constant = keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(1, kernel_initializer="zeros"), Row()]
    )

    def estimated():
        return rebar.estimate(
            lambda sample, logits: f(getattr(sample, family)("b", logits)),
            logits,
            estimator=estimator,
            n_samples=n_samples,
            seed=0,
            step=3,
            baseline=constant,
        )

    if label == "DoubleCV":  # its scale is initially 0
        estimated()
        estimator.scales[0].assign(-0.6)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        estimate = estimated()
    gradient = -5 * tape.gradient(estimate.loss, logits)

    options = dict(OPTIONS) if tempered else {}
    if label in ("LOO", "DoubleCV"):
        options["n_samples"] = n_samples
    if label == "DoubleCV":
        options["scale"] = -0.6
    if label == "REINFORCE":  # its baseline is the mean of the other rows
        values = f(estimate.samples["b"])
        options["baseline"] = (tf.reduce_sum(values) - values) / 4
    if label == "RELAX":
        flat = tf.reshape(logits, [5, -1])
        options["network"] = lambda z: estimator.networks[0](flat, z)
    u = uniforms(further=2) if label == "ARMS" else uniforms(n_samples)
    result = rebar.estimate_gradient(label, f, logits, family=family, noise=u, **options)
    # RELAX keeps its temperature as a logarithm that was rounded to float32.
    rounded = label in ("RELAX", "DoubleCV")  # DoubleCV's scale, too
    np.testing.assert_allclose(result.gradient, gradient, atol=1e-7 if rounded else 1e-12)
    if label not in ("ARM", "DisARM", "ARMS"):  # estimate_gradient gives the mean of the samples
        np.testing.assert_allclose(result.value, estimate.value, rtol=0, atol=1e-12)
    assert result.evaluations == estimate.evaluations
    assert result.unbiased == estimate.unbiased
    assert np.max(np.abs(gradient)) > 0.01


class Row(keras.layers.Layer):
    """[B, 1] -> [B]."""

    def call(self, values):
        return values[:, 0]
