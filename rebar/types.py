"""The two records that pass between models, estimators and training; the glossary of axes.

    B  batch                    S  samples (copies) per example    N = S * B  rows, sample-major
    H  units of a latent layer  L  stochastic layers              D  observed dimensions
    C  categories, where a layer has L categorical variables, [.., L, C], instead of H units
    P  parameters (components of the gradient)

Values per example are [B] and values per row are [N], never [B, 1]: broadcasting [B, 1] against [B]
silently makes [B, B], the classic error of this field.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from rebar.noise import Noise

Sampler = Callable[[int, tf.Tensor], tf.Tensor]
"""(layer, logits [N, H]) -> samples [N, H] of that layer, hard or relaxed."""


class Rollout(NamedTuple):
    """One pass through the layers of the posterior and the generative model.

    Attributes:
      objective: [N] f(x, b) in nats, e.g. log p(x, b) - log q(b | x).
      log_joint: [N] the part of f whose own parameter gradient is followed at hard samples.
      log_q: L x [N] log q(b_l | b_{l-1}); the Bernoulli formula also at relaxed samples.
      logits: L x [N, H] logits of q.
      samples: L x [N, H] from the sampler.
      log_weight: [N] log p(x, b) - log q(b | x), which the multi-sample bound averages, where f is
        another function with the same mean; None: f itself.

    Categorical layers have one-hot samples: [N, L, C] instead of [N, H].
    """

    objective: tf.Tensor
    log_joint: tf.Tensor
    log_q: tuple
    logits: tuple
    samples: tuple
    log_weight: tf.Tensor | None = None


class Estimate(NamedTuple):
    """The result of an estimator for one batch.

    Attributes:
      gradients: aligned with model.trainable_variables, of the loss -mean f (descent direction).
      control_gradients: aligned with estimator.trainable_variables, descent direction too.
      objective: [N] f at the hard samples, in nats; of the main chains only, [N / 2], where the
        noise's samples are paired.
      metrics: name -> scalar, in the order in which they are printed after the ELBO.
      tracked: label -> gradients, of every method of a tracking estimator; else empty.
    """

    gradients: list
    control_gradients: list
    objective: tf.Tensor
    metrics: Mapping[str, tf.Tensor]
    tracked: Mapping[str, list] = {}


class Model(Protocol):
    """Attributes that estimators, training and evaluation need; `Capabilities` are optional."""

    n_units: tuple
    """Widths of the latent layers: L integers, the shapes of the noise."""
    compute_dtype: str
    """"float32" or "float64": of inputs, noise and results."""
    trainable_variables: list
    inference_variables: list
    """Those of q: the only ones on which the samples depend."""
    input_mean: Any
    """[D] mean of the training set, which centers inputs."""

    def rollout(
        self, x: tf.Tensor, sampler: Sampler, n_samples: int = 1, encoded: Any = None
    ) -> Rollout:
        """One pass for x [B, D] with n_samples rows per example; `encoded` as from `encode`."""

    def encode(self, x: tf.Tensor) -> tf.Tensor:
        """The part of `rollout` that evaluation computes once for x [B, D]; None if nothing."""

    def posterior_logits(self, x: tf.Tensor, samples: tuple, n_samples: int = 1) -> tuple:
        """L x [N, H] logits of q along given samples L x [N, H] (teacher forcing)."""


class Capabilities:
    """Optional attributes of a model, with their values where a model lacks them."""

    latent_shape: tuple | None = None
    """(L, C) if the latents are one layer of L variables of C categories."""
    hard_sampler: Callable[[Noise], Sampler] | None = None
    """Sampler of q for latents that are not Bernoulli units; uniforms have the widths n_units."""
    linear_inputs: Callable[..., tuple | None] | None = None
    """(x, samples, n_samples) -> L x [N, n] inputs of q's layers if each is linear in them, else
    None; see `SigmoidBeliefNetwork.linear_inputs`."""
    prior_variables: list | None = None
    """Variables of p(b_L), for which training can have a separate optimizer."""
    grayscale: bool = True
    """Whether the model allows images in [0, 1], not only in {0, 1}."""
    half: int = 0
    """Number of leading pixels that are given instead of modeled."""
    variables: list | None = None
    """All variables to save; None: the trainable ones."""


def capability(model: Any, name: str) -> Any:
    """An optional attribute of a model, or its default of `Capabilities`."""
    return getattr(model, name, getattr(Capabilities, name))


__all__ = ["Capabilities", "Estimate", "Model", "Noise", "Rollout", "Sampler", "capability"]
