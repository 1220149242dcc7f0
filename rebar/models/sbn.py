"""Sigmoid belief networks: discrete latent layers b_1 ... b_L over an image x.

    p(x, b) = p(b_L) p(b_{L-1} | b_L) ... p(x | b_1)
    q(b | x) = q(b_1 | x) q(b_2 | b_1) ... q(b_L | b_{L-1})
    f(x, b) = log p(x, b) - log q(b | x),    E_q f = ELBO <= log p(x)

All conditionals are products of Bernoulli variables, or of categorical ones where a layer is
categorical; p(x | b_1) is one of `likelihoods`. Network inputs are images minus the training mean,
and 2 b - 1 for latent layers, as in the 2017 code; the same for one-hot samples, flattened, which
are then +-1 like those of units. With a Gaussian likelihood the input is 2 x - 1, the pixels that
it models.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar.core import bernoulli, bounds, families, samplers
from rebar.errors import RebarError
from rebar.models import likelihoods
from rebar.models.networks import (
    PRIORS,
    GeneratorNetwork,
    LearnedPrior,
    RecognitionNetwork,
    layer_shape,
)
from rebar.noise import Noise
from rebar.types import Rollout, Sampler


def _valid(shape: tuple[int, ...]) -> bool:
    """Return whether a layer has the shape (H,) or (V, C) with at least two categories."""
    return shape[0] >= 1 and (len(shape) == 1 or (len(shape) == 2 and shape[1] >= 2))


@keras.saving.register_keras_serializable("rebar")
class SigmoidBeliefNetwork(keras.Model):
    """Generative model of images with L stochastic layers and its recognition network.

    Args:
      n_units: sizes of the latent layers, starting next to the data, e.g. (200, 200): H for H
        Bernoulli units, or (V, C) for V categorical variables of C categories.
      input_mean: [D] mean of the training images, in [0, 1].
      nonlinear: put two hidden layers before each linear map between stochastic layers.
      activation: activation of hidden layers, "tanh" (2017) or "leaky_relu" (slope .3 below 0).
      initializer: kernel initializer, "2017" or "glorot", see `rebar.core.initializers`.
      seed: seed of the initial weights.
      likelihood: p(x | b_1), "bernoulli" or "gaussian", see `likelihoods`.
      prior: p(b_L), "learned" or "uniform".
      posterior_temperature: T > 0, which divides the logits of q.

    Raises:
      RebarError: an invalid argument.
    """

    def __init__(
        self,
        n_units,
        input_mean,
        nonlinear=False,
        activation="tanh",
        initializer="2017",
        seed=0,
        likelihood="bernoulli",
        prior="learned",
        posterior_temperature=1.0,
        name="sbn",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        mean = np.asarray(input_mean, np.float64)
        if mean.ndim != 1 or not np.all((mean >= 0) & (mean <= 1)):
            raise RebarError(
                f"input_mean of shape {mean.shape} in [{np.min(mean, initial=np.inf):g}, "
                f"{np.max(mean, initial=-np.inf):g}]: must be the mean of the training images, one "
                "number per pixel in [0, 1]"
            )
        shapes = tuple(map(layer_shape, n_units))
        if not shapes or not all(map(_valid, shapes)):
            raise RebarError(
                f"n_units={n_units}: must be the positive widths of at least one layer, or pairs "
                "(V, C) of V variables with C >= 2 categories"
            )
        if prior not in PRIORS:
            raise RebarError(f"prior={prior!r}: choose from {', '.join(PRIORS)}")
        self._config = {
            "n_units": [shape[0] if len(shape) == 1 else list(shape) for shape in shapes],
            "input_mean": mean.tolist(),
            "nonlinear": bool(nonlinear),
            "activation": activation,
            "initializer": initializer,
            "seed": seed,
            "likelihood": likelihood,
            "prior": prior,
            "posterior_temperature": posterior_temperature,
        }
        self.latent_shapes = shapes
        self.n_units = tuple(map(math.prod, shapes))
        self.n_input = len(mean)
        self.input_mean = tf.constant(mean, self.compute_dtype)
        names = ("nonlinear", "activation", "initializer", "seed")
        self._create_networks(
            mean, {name: self._config[name] for name in names} | {"dtype": self.dtype_policy}
        )
        self.build((None, self.n_input))

    def build(self, input_shape):
        """Record the input shape for `export`."""
        self.built = True

    def _create_networks(self, mean: np.ndarray, shared: dict[str, Any]) -> None:
        """Create prior, q and p; `shared` are arguments of all networks."""
        n_units, learned = self._config["n_units"], self._config["prior"] == "learned"
        self.prior = LearnedPrior(n_units[-1], trainable=learned, dtype=self.dtype_policy)
        self.recognition = self._recognition(self.n_input, shared)
        self._create_generator(n_units, mean, shared)

    def _recognition(self, n_input: int, shared: dict[str, Any]) -> RecognitionNetwork:
        """Create q."""
        n_units, temperature = (self._config[n] for n in ("n_units", "posterior_temperature"))
        return RecognitionNetwork(n_input, n_units, temperature=temperature, **shared)

    def _create_generator(
        self, n_units: Sequence, mean: np.ndarray, shared: dict[str, Any]
    ) -> None:
        """Create p(y | b) of the pixels y whose mean is [n_output]."""
        name = self._config["likelihood"]
        self.likelihood = likelihoods.by_name(name, len(mean), self.dtype_policy)
        bias = self.likelihood.output_bias(mean)
        self.generator = GeneratorNetwork(len(mean), n_units, bias, **shared)

    objective_name = "ELBO: log p(x, b) - log q(b | x)"

    @property
    def grayscale(self) -> bool:
        """True if the likelihood models images in [0, 1], not only in {0, 1}."""
        return self._config["likelihood"] == "gaussian"

    def network_input(self, x: tf.Tensor) -> tf.Tensor:
        """Return images as an input of networks: x - mean, or 2 x - 1 if Gaussian; [B, D]."""
        return self.likelihood.modeled(x) if self.grayscale else x - self.input_mean

    def condition(self, x: tf.Tensor) -> tf.Tensor:
        """Return the input of q's first layer for x [B, D]."""
        return self.network_input(x)

    def prior_logits(self, x: tf.Tensor) -> tf.Tensor:
        """Logits of p(b_L): [1, ...], or [B, ...] if the prior depends on x [B, D]."""
        return tf.convert_to_tensor(self.prior.logits)[tf.newaxis]

    def targets(self, x: tf.Tensor) -> tf.Tensor:
        """Pixels predicted by the generator: [B, D] -> [B, n_output]."""
        return x

    @property
    def inference_variables(self) -> list:
        """Trainable variables of q, the only ones on which samples depend."""
        return self.recognition.trainable_variables

    @property
    def prior_variables(self) -> list:
        """Trainable variables of p(b_L), for a separate optimizer."""
        return self.prior.trainable_variables

    def log_joint(
        self, x: tf.Tensor, samples: Sequence[tf.Tensor], n_samples: int = 1
    ) -> tf.Tensor:
        """log p(x, b) [N] in nats for x [B, D] and samples L x [N, ...]."""
        prior = self.prior_logits(x)
        if prior.shape[0] != 1:
            prior = families.repeated(prior, n_samples)
        return (
            families.of(prior).log_prob(samples[-1], prior)
            + self.generator.log_hidden(samples)
            + self.log_likelihood(x, samples[0], n_samples)
        )

    def log_likelihood(self, x: tf.Tensor, sample: tf.Tensor, n_samples: int = 1) -> tf.Tensor:
        """log p(y | b) [N] in nats for x [B, D] and the sample [N, ...] that generates y."""
        targets = tf.tile(self.targets(x), [n_samples, 1])
        return self.likelihood.log_prob(targets, self.generator(sample, layer=0))

    def encode(self, x: tf.Tensor) -> tf.Tensor:
        """Logits [B, H] of q(b_1 | x), the part of q that depends on x directly."""
        return self.recognition.transformations[0](self.condition(x))

    def rollout(
        self, x: tf.Tensor, sampler: Sampler, n_samples: int = 1, encoded: tf.Tensor | None = None
    ) -> Rollout:
        """Sample q layer after layer and evaluate f.

        Args:
          x: [B, D] in {0, 1}, or in [0, 1] if `grayscale`.
          sampler: see `rebar.core.samplers`.
          n_samples: S, samples per example; rows are sample-major.
          encoded: [B, H] from `encode`, to save its computation.
        """
        samples, logits = self.recognition(
            self.condition(x), sampler=sampler, n_samples=n_samples, encoded=encoded
        )
        log_q = families.log_probs(samples, logits)
        log_joint = self.log_joint(x, samples, n_samples)
        return Rollout(self.objective(log_joint, log_q), log_joint, log_q, logits, samples)

    def objective(self, log_joint: tf.Tensor, log_q: Sequence[tf.Tensor]) -> tf.Tensor:
        """f [N] in nats from log_joint [N] and log_q L x [N]."""
        return log_joint - tf.add_n(log_q)

    @property
    def expected_objective(self) -> Callable[[tf.Tensor], tf.Tensor] | None:
        """x [B, D] -> E_q f [B] for one layer, Gaussian pixels and linear networks; else None."""
        single = len(self.latent_shapes) == 1 and not self._config["nonlinear"]
        return self._expected_objective if single and self.grayscale else None

    def _expected_objective(self, x):
        # f at the mean of b: all its terms but one are linear in b.
        rollout = self.rollout(x, samplers.mean())
        kernel = 2 * self.generator.transformations[0].dense[0].kernel  # of the input 2 b - 1
        return rollout.objective - self.likelihood.spread(rollout.samples[0], kernel)

    def posterior_logits(
        self, x: tf.Tensor, samples: Sequence[tf.Tensor], n_samples: int = 1
    ) -> tuple[tf.Tensor, ...]:
        """L x [N, ...] logits of q(b_l | b_{l-1}) along samples L x [N, ...]."""
        return self.recognition(
            self.condition(x), sampler=samplers.fixed(samples), n_samples=n_samples
        )[1]

    def linear_inputs(
        self, x: tf.Tensor, samples: Sequence[tf.Tensor], n_samples: int = 1
    ) -> list[tf.Tensor] | None:
        """Inputs L x [N, n] of q's layers along samples if q is linear and binary, else None.

        logits_l = input_l W_l + b_l, and `inference_variables` are W_0, b_0, W_1, b_1, ...
        """
        scaled = self._config["nonlinear"] or self._config["posterior_temperature"] != 1
        if scaled or any(len(shape) > 1 for shape in self.latent_shapes):
            return None
        first = tf.tile(self.condition(x), [n_samples, 1])
        return [first, *map(families.inputs, samples[:-1])]

    def flipped(
        self, x: tf.Tensor, rollout: Rollout, units: slice, n_samples: int = 1
    ) -> tf.Tensor | None:
        """f with one unit of the last layer flipped in turn, [N, M], or None.

        None unless f is that of this class, p's map from that layer is linear and all layers are
        binary. A flip changes the map's outputs by twice a row of its weights, so that M products
        of samples with the weights are not needed.

        Args:
          x: [B, D].
          rollout: rollout at hard samples.
          units: M of the last layer's units.
          n_samples: S.
        """
        overridden = any(
            getattr(type(self), name) is not getattr(SigmoidBeliefNetwork, name)
            for name in ("objective", "log_joint", "log_likelihood", "rollout")
        )
        binary = all(len(shape) == 1 for shape in self.latent_shapes)
        if overridden or self._config["nonlinear"] or not binary:
            return None
        top = len(self.latent_shapes) - 1
        step = (1 - 2 * rollout.samples[top])[:, units]
        kernel = tf.convert_to_tensor(self.generator.transformations[0].dense[0].kernel)[units]
        before = self.generator(rollout.samples[top], layer=top)
        after = before[:, tf.newaxis] + 2 * step[..., tf.newaxis] * kernel
        if top:
            targets, log_prob = rollout.samples[top - 1], bernoulli.log_prob
        else:
            targets, log_prob = tf.tile(self.targets(x), [n_samples, 1]), self.likelihood.log_prob
        below = log_prob(targets[:, tf.newaxis], after) - log_prob(targets, before)[:, tf.newaxis]
        prior = self.prior_logits(x)
        if prior.shape[0] != 1:
            prior = families.repeated(prior, n_samples)
        change = below + step * (prior - rollout.logits[top])[:, units]
        return rollout.objective[:, tf.newaxis] + change

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Mean-field reconstruction: means of the pixels [B, n_output] for x [B, D]."""
        return self._decode(x, samplers.mean())

    def reconstruct(self, x: tf.Tensor, noise: Noise) -> tf.Tensor:
        """Means of the pixels [N, n_output] at posterior samples of x [B, D]."""
        return self._decode(x, samplers.hard(noise), noise.n_samples)

    def _decode(self, x: tf.Tensor, sampler: Sampler, n_samples: int = 1) -> tf.Tensor:
        x = tf.cast(x, self.compute_dtype)
        samples, _ = self.recognition(self.condition(x), sampler=sampler, n_samples=n_samples)
        return self.likelihood.mean(self.generator(samples[0], layer=0))

    def sample(self, noise: Noise, x: tf.Tensor | None = None) -> tf.Tensor:
        """Means of the pixels [N, n_output] of ancestral samples.

        Args:
          noise: uniforms L x [N, width], starting next to the data.
          x: [B, D] images, for conditional models.
        """
        if x is not None:
            x = tf.cast(x, self.compute_dtype)
        sampler = samplers.hard(noise)
        logits = self.prior_logits(x)
        logits = families.repeated(logits, noise.uniforms[-1].shape[0] // logits.shape[0])
        for layer in reversed(range(len(self.n_units))):
            below = sampler(layer, logits)
            logits = self.generator(below, layer=layer)
        return self.likelihood.mean(logits)

    def score(self, x: tf.Tensor, noise: Noise) -> tf.Tensor:
        """The S-sample bound on log p(x) in nats: x [B, D] -> [B], S = noise.n_samples."""
        x = tf.cast(x, self.compute_dtype)
        rollout = self.rollout(x, samplers.hard(noise), noise.n_samples)
        return bounds.multi_sample(bounds.split_samples(rollout.objective, noise.n_samples))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}
