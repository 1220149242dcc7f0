"""Replicas draw independent noise. As a script, with two logical devices: the comparison."""

import subprocess
import sys

import numpy as np
import tensorflow as tf

import rebar
from rebar import noise
from rebar.keras import StraightThrough

ROWS, UNITS = 64, 5


def test_replicas_draw_independent_noise():
    result = subprocess.run(
        [sys.executable, "-m", __name__], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]


def draws():
    """Name -> everything that is drawn from one seed and one step."""
    key = noise.key(0, "latents", 7)
    latents = noise.latents(key, 2, ROWS, [UNITS, UNITS])
    branches = noise.with_branches(latents, noise.key(0, "branches", 7)).branches[0]
    further = noise.uniforms(noise.further_key(latents, 1), [ROWS, UNITS])
    result = {"words": noise.words(key, [ROWS]), "uniforms": noise.uniforms(key, [ROWS])}
    result |= {"latents": latents.uniforms[1], "branches": branches[0], "further": further}
    weights = tf.range(1, UNITS + 1, dtype=tf.float32)
    for name in ("reinforce", "loo", "relax"):
        options = {"network": lambda z: tf.reduce_sum(z, axis=1)} if name == "relax" else {}
        estimate = rebar.estimate_gradient(
            name,
            lambda b: tf.square(tf.linalg.matvec(b, weights) - 3),
            tf.zeros([ROWS, UNITS]),
            seed=0,
            step=tf.constant(3),
            **options,
        )
        result[name] = estimate.gradient
    for name in ("st", "gumbel_rao", "reinmax"):
        layer = getattr(rebar.straight_through, name)
        result[f"layer {name}"] = layer(tf.zeros([ROWS, UNITS]), seed=0, step=3).z
    return result


def main():
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    alone = tf.distribute.OneDeviceStrategy("CPU:0")
    plain = draws()
    draw = tf.function(draws, autograph=False)
    for name, values in tf.function(lambda: both.run(draw))().items():
        first, second = both.experimental_local_results(values)
        assert np.mean(np.equal(first, second)) < 0.9, name
    for name, value in alone.run(draw).items():
        np.testing.assert_allclose(value, plain[name], rtol=1e-4, atol=1e-5, err_msg=name)
    with both.scope():
        layer = StraightThrough("reinmax")
    sample = tf.function(lambda: layer(tf.zeros([ROWS, UNITS]), training=True), autograph=False)
    first, second = both.experimental_local_results(tf.function(lambda: both.run(sample))())
    assert np.mean(np.all(first == second, axis=1)) < 0.5, "Keras layer"
    assert int(layer.calls.numpy()) == 1
    key = noise.key(0, "latents", 7)
    for jit in (False, True):
        words = tf.function(lambda: noise.words(key, [ROWS]), jit_compile=jit)
        for replica, value in enumerate(both.experimental_local_results(both.run(words))):
            np.testing.assert_array_equal(value, noise.words(noise.fold_in(key, replica), [ROWS]))


if __name__ == "__main__":
    main()
