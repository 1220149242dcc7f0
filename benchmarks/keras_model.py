"""Cost of a step of `rebar.keras.Model.fit`, relative to a plain Keras VAE.

    python benchmarks/keras_model.py --data_dir=DIR

A convolutional VAE with 64 Bernoulli units is trained on Fashion-MNIST by each estimator, and by
plain Keras code with a straight-through gradient. All are compiled by XLA and measured in turns;
ratios are medians over rounds.
"""

import argparse
import difflib
import inspect
import statistics
import time

import common
import keras
import numpy as np
import tensorflow as tf

import rebar

UNITS, BATCH = 64, 100


class PlainVAE(keras.Model):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = networks()
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, x):
        logits = self.encoder(x)
        q = tf.sigmoid(logits)
        u = keras.random.uniform(tf.shape(q), seed=self.seeds)
        b = q + tf.stop_gradient(tf.cast(u < q, q.dtype) - q)
        log_q = -tf.nn.sigmoid_cross_entropy_with_logits(labels=b, logits=logits)
        log_p = -tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=self.decoder(b))
        elbo = tf.reduce_sum(log_p, axis=[1, 2, 3]) - UNITS * np.log(2)
        self.add_loss(tf.reduce_mean(tf.reduce_sum(log_q, axis=1) - elbo))


class VAE(rebar.keras.Model):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = networks()

    def objective(self, sample, x):
        b = sample.bernoulli("b", self.encoder(x))
        log_p = -tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=self.decoder(b))
        elbo = tf.reduce_sum(log_p, axis=[1, 2, 3]) - UNITS * np.log(2)
        return elbo - sample.log_q


def networks():
    """Encoder [B, 28, 28, 1] -> [B, 64] and decoder back, of logits."""
    layers = keras.layers
    strided = {"strides": 2, "padding": "same"}
    encoder = [
        layers.Conv2D(32, 3, activation="relu", **strided),
        layers.Conv2D(64, 3, activation="relu", **strided),
        layers.Flatten(),
        layers.Dense(UNITS),
    ]
    decoder = [
        layers.Dense(7 * 7 * 64, activation="relu"),
        layers.Reshape([7, 7, 64]),
        layers.Conv2DTranspose(32, 3, activation="relu", **strided),
        layers.Conv2DTranspose(1, 3, **strided),
    ]
    return keras.Sequential(encoder), keras.Sequential(decoder)


def compiled(name):
    """Return a model; "plain" is that without an estimator."""
    keras.utils.set_random_seed(0)
    optimizer = keras.optimizers.Adam(1e-3)
    if name == "plain":
        model = PlainVAE()
        model.compile(optimizer, jit_compile=True)
        return model
    model = VAE()
    model.compile(optimizer, name, n_samples=2 if name == "LOO" else 1, jit_compile=True)
    return model


class Stopwatch(keras.callbacks.Callback):
    """Time of an epoch, without that of starting `fit`."""

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self.start


def further_lines():
    """Number of the lines of `VAE` that `PlainVAE` does not have."""
    texts = [inspect.getsource(kind).splitlines() for kind in (PlainVAE, VAE)]
    return sum(line.startswith("+ ") for line in difflib.ndiff(*texts))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", default="data", help="data folder, see docs/data.md")
    parser.add_argument("--estimators", default="ST,DisARM,LOO", help="comma list")
    parser.add_argument("--rounds", type=common.integer, default=15, help="at least 3")
    parser.add_argument("--steps", type=common.integer, default=20, help="steps per round")
    parser.add_argument("--json", help="file for the records")
    arguments = parser.parse_args()
    names = ["plain", *arguments.estimators.split(",")]
    images = rebar.load_data("fashion", arguments.data_dir).train[: arguments.steps * BATCH]
    images = np.float32(images).reshape(-1, 28, 28, 1)
    models, times = {name: compiled(name) for name in names}, {name: [] for name in names}
    watch = Stopwatch()
    for i in range(arguments.rounds + 1):
        for name, model in models.items():
            model.fit(images, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[watch])
            if i:  # the first one compiles
                times[name].append(1000 * watch.seconds / arguments.steps)
    print(f"lines of the model beyond the plain one: {further_lines()}")
    print(f"{'estimator':12s} ms per step   ratio")
    records = []
    for name in names:
        ratios = [a / b for a, b in zip(times[name], times["plain"], strict=True)]
        record = {"ms": statistics.median(times[name]), "ratio": statistics.median(ratios)}
        print(f"{name:12s} {record['ms']:11.1f}   {record['ratio']:5.2f}")
        records.append({"estimator": name, **record})
    common.write_records(arguments.json, False, records=records)


if __name__ == "__main__":
    common.run(main)
