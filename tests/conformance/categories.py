"""Tiny categorical problems: a model with real networks, and one whose f is a polynomial of z."""

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
    """

    compute_dtype = "float64"
    n_input = 1

    def __init__(self, quadratic: bool):
        generator = np.random.default_rng(3)
        size = N_LATENTS * N_CATEGORIES
        self.latent_shape = (N_LATENTS, N_CATEGORIES)
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
        logits = tf.tile(self.logits[tf.newaxis], [x.shape[0] * n_samples, 1, 1])
        z = sampler(0, logits)
        row = tf.reshape(z, [-1, *self.n_units])
        f = 2 + tf.linalg.matvec(row, self.b) + tf.reduce_sum(row * (row @ self.a), axis=1)
        log_q = tf.reduce_sum(categorical.log_prob(z, logits), axis=-1)
        return Rollout(f, f, (log_q,), (logits,), (z,))


def mean_over_samples(estimator, model) -> np.ndarray:
    """E g over all samples of a `Polynomial`, of an estimator without further noise: [L, C]."""
    x = tensor([[1.0]])
    codes = np.stack(np.unravel_index(range(N_CATEGORIES**N_LATENTS), [N_CATEGORIES] * N_LATENTS))
    total = 0
    for code in codes.T:
        one_hot = np.eye(N_CATEGORIES)[code]
        q = np.exp(np.sum(one_hot * tf.nn.log_softmax(model.logits)))
        uniforms = np.clip(one_hot.reshape(1, -1), 1e-9, 1 - 1e-9)  # decide the sample
        draws = noise.Noise((tensor(uniforms),), 1, key=noise.key(0, "further", 0))
        total = total + q * estimator.estimate(model, x, draws).gradients[0].numpy()
    return total
