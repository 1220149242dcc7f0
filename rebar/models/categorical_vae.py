"""Variational autoencoder with L categorical variables of C categories, as in the ReinMax paper.

    p(x, z) = p(z) p(x | z),   q(z | x) = prod_l pi_l(x)[z_l],   pi_l = softmax(logits_l(x))
    f(x, z) = log p(x | z) - KL(q(z | x) || p(z)),   E_q f = ELBO <= log p(x)

The divergence is in closed form, so f has the same mean as log p(x, z) - log q(z | x), which the
multi-sample bound averages. Encoder D-512-256-(L C), decoder (L C)-256-512-D, ReLU; pixels x in
[0, 1], binarized or grayscale, are the targets of one of `likelihoods`, by default cross-entropy.

Source of the architecture: Liu et al. 2023 (arXiv 2304.08612) and Wang & Bui 2026 (arXiv
2603.08257), with a uniform prior.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import bounds, categorical, samplers
from rebar.core.initializers import FanInUniform
from rebar.core.validity import positive
from rebar.errors import RebarError
from rebar.models import likelihoods
from rebar.models.networks import PRIORS
from rebar.noise import Noise
from rebar.types import Rollout, Sampler

HIDDEN = (512, 256)
"""The papers' widths of the hidden layers."""


@keras.saving.register_keras_serializable("rebar")
class CategoricalVAE(keras.Model):
    """Stochastic layer of categorical variables between two dense networks.

    Args:
      n_categories: C, at least 2.
      n_latents: L, number of variables; C = 8 and L = 4 is the papers' "8x4".
      input_mean: [D] mean of the training images, subtracted by control variates but not by the
        networks.
      prior: prior of z, "uniform" or "learned" (logits [L, C], initially 0).
      seed: seed of the initial weights.
      hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
      likelihood: p(x | z), "bernoulli" or "gaussian", see `likelihoods`.
      posterior_temperature: T > 0, which divides the logits of q.

    Raises:
      RebarError: an invalid argument.
    """

    objective_name = "ELBO: log p(x | z) - KL(q(z | x) || p(z))"

    def __init__(
        self,
        n_categories,
        n_latents,
        input_mean,
        prior="uniform",
        seed=0,
        hidden=HIDDEN,
        likelihood="bernoulli",
        posterior_temperature=1.0,
        name="categorical_vae",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        mean = np.asarray(input_mean, np.float64)
        if n_categories < 2 or n_latents < 1:
            raise RebarError(
                f"n_categories={n_categories}, n_latents={n_latents}: must be at least 2 and 1"
            )
        if prior not in PRIORS:
            raise RebarError(f"prior={prior!r}: choose from {', '.join(PRIORS)}")
        if mean.ndim != 1 or not np.all((mean >= 0) & (mean <= 1)):
            raise RebarError(
                f"input_mean of shape {mean.shape}: must be the mean of the training images, one "
                "number per pixel in [0, 1]"
            )
        self._config = {
            "n_categories": int(n_categories),
            "n_latents": int(n_latents),
            "input_mean": mean.tolist(),
            "prior": prior,
            "seed": seed,
            "hidden": list(hidden),
            "likelihood": likelihood,
            "posterior_temperature": posterior_temperature,
        }
        self.posterior_temperature = positive(posterior_temperature, "posterior_temperature")
        self.latent_shape = (int(n_latents), int(n_categories))
        self.latent_shapes = (self.latent_shape,)
        self.n_units = (int(n_latents) * int(n_categories),)
        self.n_input = len(mean)
        self.input_mean = tf.constant(mean, self.compute_dtype)
        self.encoder = self._network("encoder", (self.n_input, *hidden, *self.n_units), seed)
        self.decoder = self._network("decoder", (*self.n_units, *hidden[::-1], self.n_input), seed)
        self.likelihood = likelihoods.by_name(likelihood, self.n_input, self.dtype_policy)
        self._prior_logits = None
        if prior == "learned":
            self._prior_logits = self.add_weight(
                shape=self.latent_shape, initializer="zeros", name="prior_logits"
            )
        self.build((None, self.n_input))

    def build(self, input_shape):
        """Record the input shape for `export`."""
        self.built = True

    def _network(self, name, widths, seed):
        """Return dense layers of these widths with ReLU between them."""
        layers = []
        for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
            seeds = [noise_module.initializer_seed(seed, f"{name}_{i}_{part}") for part in "wb"]
            layer = keras.layers.Dense(
                n_out,
                activation="relu" if i < len(widths) - 2 else None,
                kernel_initializer=FanInUniform(seeds[0], n_in),
                bias_initializer=FanInUniform(seeds[1], n_in),
                name=f"{name}_{i}",
                dtype=self.dtype_policy,
            )
            layer.build((None, n_in))
            layers.append(layer)
        return layers

    @property
    def inference_variables(self) -> list:
        """Trainable variables of q, the only ones on which samples depend."""
        return [v for layer in self.encoder for v in layer.trainable_variables]

    @property
    def prior_variables(self) -> list:
        """Trainable variables of p(z); [] if it is uniform."""
        return [] if self._prior_logits is None else [self._prior_logits]

    def prior_logits(self) -> tf.Tensor:
        """Logits [L, C] of p(z)."""
        if self._prior_logits is None:
            return tf.zeros(self.latent_shape, self.compute_dtype)
        return tf.convert_to_tensor(self._prior_logits)

    def encode(self, x: tf.Tensor) -> tf.Tensor:
        """Logits [B, L C] of q(z | x)."""
        logits = _through(self.encoder, self.likelihood.modeled(x))
        return logits if self.posterior_temperature == 1 else logits / self.posterior_temperature

    def rollout(
        self, x: tf.Tensor, sampler: Sampler, n_samples: int = 1, encoded: tf.Tensor | None = None
    ) -> Rollout:
        """Sample q and evaluate f.

        Args:
          x: [B, D] in [0, 1].
          sampler: function of the layer, 0, and logits [N, L, C].
          n_samples: S, samples per example; rows are sample-major.
          encoded: [B, L C] from `encode`, to save its computation.
        """
        if encoded is None:
            encoded = self.encode(x)
        logits = tf.reshape(encoded, [-1, *self.latent_shape])
        prior = self.prior_logits()
        divergence = tf.reduce_sum(categorical.kl_to(logits, prior), axis=-1)  # [B]
        if n_samples > 1:
            logits = tf.tile(logits, [n_samples, 1, 1])
            divergence = tf.tile(divergence, [n_samples])
            x = tf.tile(x, [n_samples, 1])
        z = sampler(0, logits)
        log_q = tf.reduce_sum(categorical.log_prob(z, logits), axis=-1)
        log_p = tf.reduce_sum(categorical.log_prob(z, prior), axis=-1)
        log_likelihood = self.likelihood.log_prob(x, self.decode(z))
        f = log_likelihood - divergence
        return Rollout(f, f, (log_q,), (logits,), (z,), log_likelihood + log_p - log_q)

    @property
    def expected_objective(self) -> Callable[[tf.Tensor], tf.Tensor] | None:
        """x [B, D] -> E_q f [B] for Gaussian pixels and a linear decoder, hidden=(); else None."""
        gaussian = self._config["likelihood"] == "gaussian"
        return self._expected_objective if gaussian and not self._config["hidden"] else None

    def _expected_objective(self, x):
        rollout = self.rollout(x, samplers.mean())
        return rollout.objective - self.likelihood.spread(
            rollout.samples[0], self.decoder[0].kernel
        )

    def decode(self, z):
        """Outputs [N, D] for the pixels, logits or means, for z [N, L, C]."""
        return _through(self.decoder, tf.reshape(z, [-1, *self.n_units]))

    def posterior_logits(
        self, x: tf.Tensor, samples: Sequence[tf.Tensor], n_samples: int = 1
    ) -> tuple[tf.Tensor, ...]:
        """(logits [N, L, C],), independent of samples."""
        logits = tf.reshape(self.encode(x), [-1, *self.latent_shape])
        return (tf.tile(logits, [n_samples, 1, 1]),)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Mean-field reconstruction: means of the pixels [B, D] for x [B, D]."""
        (logits,) = self.posterior_logits(tf.cast(x, self.compute_dtype), ())
        return self.likelihood.mean(self.decode(tf.nn.softmax(logits)))

    def reconstruct(self, x: tf.Tensor, noise: Noise) -> tf.Tensor:
        """Means of the pixels [N, D] at posterior samples of x [B, D]."""
        x = tf.cast(x, self.compute_dtype)
        rollout = self.rollout(x, samplers.hard(noise), noise.n_samples)
        return self.likelihood.mean(self.decode(rollout.samples[0]))

    def sample(self, noise: Noise, x: tf.Tensor | None = None) -> tf.Tensor:
        """Means of the pixels [N, D] of samples from the prior; x is for conditional models."""
        del x
        rows = noise.uniforms[0].shape[0]
        logits = tf.tile(self.prior_logits()[tf.newaxis], [rows, 1, 1])
        return self.likelihood.mean(self.decode(samplers.hard(noise)(0, logits)))

    def score(self, x: tf.Tensor, noise: Noise) -> tf.Tensor:
        """The S-sample bound on log p(x) in nats: x [B, D] -> [B], S = noise.n_samples."""
        x = tf.cast(x, self.compute_dtype)
        rollout = self.rollout(x, samplers.hard(noise), noise.n_samples)
        return bounds.multi_sample(bounds.split_samples(rollout.log_weight, noise.n_samples))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}


def _through(layers, values):
    for layer in layers:
        values = layer(values)
    return values
