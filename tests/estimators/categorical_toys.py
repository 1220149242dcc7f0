"""Rewards of categorical layers with logits per row, whose exact gradient is a sum over states."""

import itertools

import numpy as np
import tensorflow as tf

import rebar
from rebar import noise
from rebar.core import families

SHAPES = {
    "1x4": [(1, 4)],
    "2x3": [(2, 3)],
    "3x5": [(3, 5)],
    "two layers": [(2, 3), (1, 4)],
}
"""Name -> variables and categories of each layer."""


class Reward:
    """A fixed function of one-hot samples; the parameters are added to every row's logits.

    Args:
      shapes: V and C of each layer; the logits of the second one depend on the first.
      rows: number of rows.
    """

    compute_dtype = "float64"
    input_mean = None

    def __init__(self, shapes, rows=1):
        random = np.random.default_rng(7)
        self.latent_shapes = tuple(shapes)
        self.n_units = tuple(v * c for v, c in shapes)
        self.logits = [random.normal(size=shape) for shape in shapes]
        self.link = random.normal(size=(*shapes[0], *shapes[-1]))
        self.linear = [2 * random.normal(size=shape) for shape in shapes]
        self.waves = random.normal(size=sum(self.n_units))
        self.trainable_variables = [tf.Variable(np.zeros([rows, *shape])) for shape in shapes]

    def rollout(self, x, sampler, n_samples=1, encoded=None):
        logits, samples = [], []
        for layer, (a, offset) in enumerate(
            zip(self.logits, self.trainable_variables, strict=True)
        ):
            above = tf.einsum("nvc,vcwd->nwd", samples[0], self.link) if layer else 0.0
            logits.append(a + tf.tile(offset, [n_samples, 1, 1]) + above)
            samples.append(sampler(layer, logits[-1]))
        f = self.value(samples)
        log_q = families.log_probs(samples, logits)
        return rebar.Rollout(f, f, log_q, tuple(logits), tuple(samples))

    def value(self, samples):
        """f [N] of one-hot samples [N, V, C] per layer."""
        pairs = zip(samples, self.linear, strict=True)
        linear = sum(families.row_sum(b * w) for b, w in pairs)
        flat = tf.concat([families.flat(b) for b in samples], axis=1)
        return linear + tf.sin(2 * tf.linalg.matvec(flat, self.waves))

    def exact(self):
        """Gradient of E f, flat: sums over all states of f times their probability."""
        per_layer = [
            [np.eye(c)[list(code)] for code in itertools.product(range(c), repeat=v)]
            for v, c in self.latent_shapes
        ]
        states = zip(*itertools.product(*per_layer), strict=True)
        states = [tf.constant(np.stack(layer)) for layer in states]
        offsets = [tf.Variable(np.zeros([1, *shape])) for shape in self.latent_shapes]
        with tf.GradientTape() as tape:
            logits = [
                a + offset + (tf.einsum("nvc,vcwd->nwd", states[0], self.link) if layer else 0.0)
                for layer, (a, offset) in enumerate(zip(self.logits, offsets, strict=True))
            ]
            log_q = tf.add_n(list(families.log_probs(states, logits)))
            mean = tf.reduce_sum(tf.exp(log_q) * self.value(states))
        return np.concatenate([np.ravel(g) for g in tape.gradient(mean, offsets)])


def estimates(estimator, model, draws):
    """Estimates per row for ascent, [N, components]."""
    rows = model.trainable_variables[0].shape[0]
    gradients = estimator.estimate(model, tf.zeros([rows, 1]), draws).gradients
    return tf.concat([-rows * families.flat(g) for g in gradients], axis=1)


def drawn(estimator, shapes, largest_error, rows=100_000):
    """Mean of estimates and its standard error, below a bound, per component."""
    model = Reward(shapes, rows)

    @tf.function(autograph=False)
    def moments(key):
        draws = noise.latents(key, 1, rows, model.n_units, tf.float64)
        g = estimates(estimator, model, draws)
        return tf.reduce_mean(g, axis=0), tf.reduce_mean(g**2, axis=0)

    values, error = [], np.inf
    while np.max(error) > largest_error:
        key = tf.constant(noise.key(3, "analysis", len(values)))
        values.append(np.stack(moments(key)))
        mean, square = np.mean(values, axis=0)
        error = np.sqrt(np.maximum(square - mean**2, 0) / (len(values) * rows))
    return mean, error
