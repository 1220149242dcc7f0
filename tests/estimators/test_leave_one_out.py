"""Leave-one-out over the samples of an example: its learning signal, two samples, evaluation."""

import numpy as np
import pytest
import tensorflow as tf

from rebar.errors import RebarError
from rebar.estimators.base import hard_rollout
from rebar.estimators.leave_one_out import LeaveOneOut, learning_signal
from rebar.training.evaluate import Evaluator
from tests.conformance.cases import draw, float64, images, noise_keys, tensor, tiny_model

__all__ = ["float64"]

pytestmark = pytest.mark.usefixtures("float64")

BATCH = 3


def problem(n_samples, n_layer=2):
    model = tiny_model(n_layer)
    noise = draw(LeaveOneOut(), model, noise_keys(4, n_samples), n_samples, BATCH, tf.float64)
    return model, tensor(images(BATCH)), noise


def test_the_baseline_is_the_mean_of_the_example_s_other_samples():
    """Rows are sample-major: two examples, three samples."""
    f = tf.constant([1.0, 100, 2, 200, 6, 600])
    assert learning_signal(f, 3).numpy().tolist() == [-3, -300, -1.5, -150, 4.5, 450]
    assert learning_signal(f, 2).numpy().tolist() == [-199, 94, -598, 199, -94, 598]
    np.testing.assert_array_equal(learning_signal(f, 1), f)


@pytest.mark.parametrize("n_layer", [1, 3])
def test_two_samples_are_half_the_product_of_differences(n_layer):
    """The DisARM paper's formula, 1/2 (f_1 - f_2) (d log q(b_1) - d log q(b_2)), and d log p."""
    model, x, noise = problem(2, n_layer)
    with tf.GradientTape() as tape:
        hard = hard_rollout(model, x, noise)
        first, second = tf.split(hard.objective, 2)
        scores = tf.split(tf.add_n(list(hard.log_q)), 2)
        cotangent = tf.stop_gradient(first - second) / 2
        loss = -tf.reduce_mean(cotangent * (scores[0] - scores[1]))
        loss -= tf.reduce_mean(hard.log_joint)
    expected = tape.gradient(loss, [v.value for v in model.trainable_variables])
    estimate = LeaveOneOut().estimate(model, x, noise)
    for ours, g in zip(estimate.gradients, expected, strict=True):
        np.testing.assert_allclose(ours, g, rtol=1e-10, atol=1e-12)


def test_one_sample_is_refused():
    model, x, noise = problem(1)
    with pytest.raises(RebarError, match=r"n_samples=1: .*set n_samples=2"):
        LeaveOneOut().estimate(model, x, noise)


def test_the_metric_is_the_rms_of_the_signal():
    model, x, noise = problem(3)
    estimate = LeaveOneOut().estimate(model, x, noise)
    f = np.reshape(estimate.objective, [3, BATCH])
    others = np.stack([np.delete(f, k, axis=0).mean(axis=0) for k in range(3)])
    expected = np.sqrt(np.mean(np.square(f - others)))
    assert list(estimate.metrics) == ["signal_rms"]
    assert float(estimate.metrics["signal_rms"]) == pytest.approx(expected, rel=1e-12)
    assert LeaveOneOut().evaluations([(2,)] * 3, 4) == 4


@pytest.mark.parametrize("n_samples", [1, 2, 100, 150])
def test_evaluation_with_any_number_of_samples(n_samples):
    values = Evaluator(tiny_model(2), LeaveOneOut())(images(BATCH), n_samples)
    assert list(values) == ["bound", "elbo", "signal_rms"]
    assert np.all(np.isfinite(list(values.values())))
    assert values["signal_rms"] > 0
