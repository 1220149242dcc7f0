"""Tiny categorical problems: a model with real networks, and one whose f is a polynomial of z."""

import math

import numpy as np
import tensorflow as tf

from rebar import noise, registry
from rebar.core import categorical
from rebar.hparams import HParams
from rebar.models.categorical_vae import CategoricalVAE
from rebar.testing.problems import N_CATEGORIES, N_INPUT, N_LATENTS, randomize
from rebar.types import Rollout
from tests.conformance.cases import tensor


def model(prior="learned"):
    """A CategoricalVAE with narrow layers and random weights, in the dtype of Keras' policy."""
    mean = np.linspace(0.2, 0.7, N_INPUT)
    vae = CategoricalVAE(N_CATEGORIES, N_LATENTS, mean, prior, hidden=(4, 3))
    randomize(vae.trainable_variables, 6, 1.0)
    return vae


def hparams(name, **changes) -> HParams:
    """Settings of an estimator: few draws of the noise given the sample, two samples."""
    values = {"mc_samples": 3, "track": ("ReinMax", "LOO"), "follow": "LOO", "temperature": 0.8}
    return HParams(model=name, n_samples=2, task="digits_grey", **{**values, **changes})


def estimator(name, model, **changes):
    """Return the registered estimator after setup."""
    estimator = registry.make_estimator(name, hparams(name, **changes))
    estimator.setup(model)
    return estimator


class Polynomial:
    """One image, logits [L, C] as the only variable, f = 2 + <b, z> + z'Az.

    The uniforms [1, L C] of its noise are the one-hot sample itself, so that means over all samples
    can be taken one by one.

    Args:
      quadratic: whether A is not zero.
      latent_shape: (L, C).
    """

    compute_dtype = "float64"
    n_input = 1

    def __init__(self, quadratic: bool, latent_shape=(N_LATENTS, N_CATEGORIES)):
        generator = np.random.default_rng(3)
        size = math.prod(latent_shape)
        self.latent_shape = latent_shape
        self.latent_shapes = (self.latent_shape,)
        self.n_units = (size,)
        self.input_mean = tensor([0.5])
        self.logits = tf.Variable(generator.normal(size=self.latent_shape))
        self.trainable_variables = self.inference_variables = [self.logits]
        self.b = tensor(generator.normal(size=size))
        self.a = tensor(
            generator.normal(size=(size, size)) if quadratic else np.zeros((size, size))
        )

    def encode(self, x):
        return None

    def rollout(self, x, sampler, n_samples=1, encoded=None):
        logits = self.logits[tf.newaxis] if self.logits.shape.rank == 2 else self.logits
        logits = tf.tile(logits, [x.shape[0] * n_samples // logits.shape[0], 1, 1])
        z = sampler(0, logits)
        row = tf.reshape(z, [-1, *self.n_units])
        f = 2 + tf.linalg.matvec(row, self.b) + tf.reduce_sum(row * (row @ self.a), axis=1)
        log_q = tf.reduce_sum(categorical.log_prob(z, logits), axis=-1)
        return Rollout(f, f, (log_q,), (logits,), (z,))


class Hierarchy:
    """Two layers [V, C] of categorical variables, f = z'Az of both; logits_2 = a_2 + z_1 M."""

    compute_dtype = "float64"
    n_input = 1

    def __init__(self, latent_shape=(N_LATENTS, N_CATEGORIES)):
        generator, size = np.random.default_rng(4), math.prod(latent_shape)
        self.latent_shapes = (latent_shape, latent_shape)
        self.n_units = (size, size)
        self.input_mean = tensor([0.5])
        self.logits = [tf.Variable(generator.normal(size=latent_shape)) for _ in range(2)]
        self.m = tf.Variable(generator.normal(size=(size, size)))
        self.trainable_variables = self.inference_variables = [*self.logits, self.m]
        self.a = tensor(generator.normal(size=(2 * size, 2 * size)))

    def encode(self, x):
        return None

    def rollout(self, x, sampler, n_samples=1, encoded=None):
        rows = tf.shape(x)[0] * n_samples
        first = tf.tile(self.logits[0][tf.newaxis], [rows, 1, 1])
        z_1 = sampler(0, first)
        flat = tf.reshape(z_1, [-1, self.n_units[0]])
        second = self.logits[1] + tf.reshape(flat @ self.m, tf.shape(first))
        z_2 = sampler(1, second)
        row = tf.concat([flat, tf.reshape(z_2, [-1, self.n_units[1]])], axis=1)
        f = tf.reduce_sum(row * (row @ self.a), axis=1)
        log_q = [
            tf.reduce_sum(categorical.log_prob(z, a), -1) for z, a in ((z_1, first), (z_2, second))
        ]
        return Rollout(f, f, tuple(log_q), (first, second), (z_1, z_2))


def mean_over_samples(estimator, model) -> np.ndarray:
    """E g over all samples of a `Polynomial`, of an estimator without further noise: [L, C]."""
    x = tensor([[1.0]])
    n_latents, n_categories = model.latent_shape
    total = 0
    for code in np.ndindex(*[n_categories] * n_latents):
        one_hot = np.eye(n_categories)[list(code)]
        q = np.exp(np.sum(one_hot * tf.nn.log_softmax(model.logits)))
        uniforms = np.clip(one_hot.reshape(1, -1), 1e-9, 1 - 1e-9)  # decide the sample
        draws = noise.Noise((tensor(uniforms),), 1, key=noise.key(0, "further", 0))
        total = total + q * estimator.estimate(model, x, draws).gradients[0].numpy()
    return total
