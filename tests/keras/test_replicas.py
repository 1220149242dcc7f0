"""Training under MirroredStrategy. As a script, with two logical devices: the comparison."""

import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

import rebar
from rebar import noise
from tests.keras.models import IMAGES, compiled


def test_two_replicas():
    result = subprocess.run(
        [sys.executable, "-m", __name__], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]


def values(model):
    return [v.numpy() for v in (*model.trainable_variables, *model.estimator.trainable_variables)]


def learned():
    """Model whose updates are gradients."""
    optimizers = [keras.optimizers.SGD(1.0) for _ in range(2)]
    return compiled("DynamicREBAR", optimizer=optimizers[0], control_optimizer=optimizers[1])


def replica_gradients(model, x, step):
    """Gradients of a replica, from `rebar.estimate` in one."""
    options = {"estimator": model.estimator, "seed": 0, "step": step}
    with tf.GradientTape(persistent=True) as tape:
        estimate = rebar.estimate(model.objective, x, **options)
    return [
        *tape.gradient(estimate.loss, model.trainable_variables),
        *tape.gradient(estimate.control_loss, model.estimator.trainable_variables),
    ]


def main():
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    halves = IMAGES[:20], IMAGES[20:]
    with both.scope():
        model = learned()
    options = {"batch_size": 40, "shuffle": False, "verbose": 0}
    model.fit(IMAGES, **options)
    before = values(model)
    single = learned()
    single.train_on_batch(IMAGES)  # creates the variables
    for variable, value in zip(
        (*single.trainable_variables, *single.estimator.trainable_variables),
        before,
        strict=True,
    ):
        variable.assign(value)
    model.fit(IMAGES, **options)
    parts = []
    of_replica = noise.of_replica
    for replica, x in enumerate(halves):
        noise.of_replica = lambda key, replica=replica: noise.fold_in(key, replica)
        parts.append(replica_gradients(single, tf.constant(x), 1))
    noise.of_replica = of_replica
    for i, (old, new) in enumerate(zip(before, values(model), strict=True)):
        expected = (parts[0][i] + parts[1][i]) / 2
        np.testing.assert_allclose(old - new, expected, rtol=1e-3, atol=1e-5)
    result = model.evaluate(IMAGES, batch_size=40, verbose=0, return_dict=True)
    assert np.isfinite(result["elbo"])


if __name__ == "__main__":
    main()
