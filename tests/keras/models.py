"""A small model with an exact likelihood, and another with targets."""

import itertools

import keras
import numpy as np
import tensorflow as tf

import rebar

UNITS, PIXELS = 3, 6
IMAGES = np.random.default_rng(0).integers(0, 2, (40, PIXELS)).astype(np.float32)
IMAGES[:, 3:] = IMAGES[:, :3]  # something to learn


@keras.saving.register_keras_serializable("tests")
class BinaryVAE(rebar.keras.Model):
    """VAE with Bernoulli units and a uniform prior."""

    def __init__(self, units=UNITS, decay=0.0, **kwargs):
        super().__init__(**kwargs)
        self.units, self.decay = units, decay
        regularizer = keras.regularizers.L2(decay) if decay else None
        self.encoder = keras.layers.Dense(units, kernel_regularizer=regularizer)
        self.decoder = keras.layers.Dense(PIXELS, dtype="float32")

    def log_joint(self, x, b):
        log_p = -tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=self.decoder(b))
        return tf.reduce_sum(log_p, axis=1) - self.units * np.log(2)

    def objective(self, sample, x):
        b = sample.bernoulli("b", self.encoder(x))
        return self.log_joint(x, b) - sample.log_q


@keras.saving.register_keras_serializable("tests")
class Gated(rebar.keras.Model):
    """Classifier with a Bernoulli layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.outputs = keras.layers.Dense(4), keras.layers.Dense(2)

    def objective(self, sample, x, y):
        scores = self.outputs(sample.bernoulli("gates", self.hidden(x)))
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=scores)

    def call(self, x):
        return self.outputs(tf.sigmoid(self.hidden(x)))


def compiled(estimator="DisARM", model=BinaryVAE, optimizer=None, **arguments):
    """Return a new compiled model with the same initial weights each time."""
    keras.utils.set_random_seed(1)
    options = {name: arguments.pop(name) for name in ("decay", "dtype") if name in arguments}
    result = model(**options)
    result.compile(optimizer or keras.optimizers.Adam(0.05), estimator, **arguments)
    return result


def fit(model, epochs=2, **arguments):
    """Train, and return the history."""
    options = {"batch_size": 20, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(IMAGES, epochs=epochs, **options).history


def exact(model):
    """ELBO and log likelihood per image, in nats, by enumeration of all states."""
    states = np.float32(list(itertools.product([0, 1], repeat=model.units)))
    logits = model.encoder(IMAGES)
    q = tf.reduce_prod(tf.sigmoid(logits[:, None] * (2 * states - 1)), axis=-1)
    log_joint = tf.stack(
        [model.log_joint(IMAGES, np.repeat(b[None], len(IMAGES), axis=0)) for b in states], axis=1
    )
    elbo = tf.reduce_sum(q * (log_joint - tf.math.log(q)), axis=1)
    return float(tf.reduce_mean(elbo)), float(tf.reduce_mean(tf.reduce_logsumexp(log_joint, 1)))
