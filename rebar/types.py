"""Records that models, estimators and training exchange.

Axes:
    B  batch                    S  samples per example    N = S * B  rows, sample-major
    H  units of a latent layer  L  stochastic layers      D  observed dimensions
    C  categories: a layer of V categorical variables is [..., V, C] instead of [..., H]
    P  parameters (components of the gradient)

Per-example values are [B] and per-row values [N], never [B, 1], which broadcasts with [B] to
[B, B].
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from rebar.noise import Noise

Shapes = Sequence[tuple[int, ...]]
"""L shapes of a row of each layer: (H,) for Bernoulli units, (V, C) for categorical variables."""

Sampler = Callable[[int, tf.Tensor], tf.Tensor]
"""(layer, logits [N, H] or [N, V, C]) -> samples of that layer, hard or relaxed."""


class Rollout(NamedTuple):
    """One pass through the layers of the posterior and the generative model.

    Attributes:
      objective: [N] f(x, b) in nats, e.g. log p(x, b) - log q(b | x).
      log_joint: [N] the part of f whose parameter gradient is followed at hard samples.
      log_q: L x [N] log q(b_l | b_{l-1}); the Bernoulli formula also at relaxed samples.
      logits: L x [N, H] logits of q.
      samples: L x [N, H] samples from the sampler.
      log_weight: [N] log p(x, b) - log q(b | x) in the multi-sample bound, if f is another function
        with the same mean; None: f itself.

    Categorical layers have logits and one-hot samples [N, V, C] instead of [N, H].
    """

    objective: tf.Tensor
    log_joint: tf.Tensor
    log_q: tuple
    logits: tuple
    samples: tuple
    log_weight: tf.Tensor | None = None


class Estimate(NamedTuple):
    """Gradient estimate for one batch.

    Attributes:
      gradients: gradients of the loss -mean f, aligned with model.trainable_variables.
      control_gradients: gradients for descent, aligned with estimator.trainable_variables.
      objective: [N] f at the hard samples, in nats; [N / 2] of the main chains if samples are
        paired.
      metrics: name -> scalar, in the order printed after the ELBO.
      tracked: label -> gradients of every method of a tracking estimator; else empty.
    """

    gradients: list
    control_gradients: list
    objective: tf.Tensor
    metrics: Mapping[str, tf.Tensor]
    tracked: Mapping[str, list] = {}


class Model(Protocol):
    """Interface of models for estimators, training and evaluation; `Capabilities` are optional."""

    n_units: tuple
    """Widths of the L latent layers and of their noise."""
    compute_dtype: str
    """"float32" or "float64": dtype of inputs, noise and results."""
    trainable_variables: list
    inference_variables: list
    """Trainable variables of q, the only ones on which samples depend."""
    input_mean: Any
    """[D] mean of the training set, subtracted from inputs."""

    def rollout(
        self, x: tf.Tensor, sampler: Sampler, n_samples: int = 1, encoded: Any = None
    ) -> Rollout:
        """Roll out x [B, D] with n_samples rows per example; `encoded` is from `encode`."""

    def encode(self, x: tf.Tensor) -> tf.Tensor:
        """Return the part of `rollout` that depends on x [B, D] alone; None if there is none."""

    def posterior_logits(self, x: tf.Tensor, samples: tuple, n_samples: int = 1) -> tuple:
        """Return L x [N, H] logits of q along samples L x [N, H] (teacher forcing)."""


class Capabilities:
    """Optional attributes of a model, and their defaults."""

    latent_shapes: tuple | None = None
    """L shapes of a row of each layer: (H,) for Bernoulli units, (V, C) for V variables of C
    categories; None: Bernoulli units. n_units are the widths, H or V * C."""
    linear_inputs: Callable[..., tuple | None] | None = None
    """(x, samples, n_samples) -> L x [N, n] inputs of q's layers if each is linear in them, else
    None; see `SigmoidBeliefNetwork.linear_inputs`."""
    flipped: Callable[..., "tf.Tensor | None"] | None = None
    """(x, rollout, units, n_samples) -> f [N, M] with each of M units of the last layer flipped, if
    it costs less than M rollouts, else None; see `SigmoidBeliefNetwork.flipped`."""
    prior_variables: list | None = None
    """Variables of p(b_L), for a separate optimizer."""
    grayscale: bool = True
    """The model supports images in [0, 1], not only in {0, 1}."""
    half: int = 0
    """Number of leading pixels that are inputs instead of targets."""
    objective_name: str = "objective of the model"
    """Description of f, for records."""
    omits_scores: bool = False
    """`log_joint` omits terms of f whose mean is zero over samples, but not over all states."""
    with_noise: Callable[..., Any] | None = None
    """noise -> the model with the noise of an estimate, for continuous latents that it draws."""
    expected_objective: Callable[..., tf.Tensor] | None = None
    """x [B, D] -> E_q f(x, b) [B] in closed form, for any number of states."""
    continuous: bool = False
    """Rollouts draw continuous latents, too, so that enumeration is not exact. Their noise is that
    of the main chain in rollouts of as many rows."""
    sites: tuple = ()
    """Names of the sites of an objective, whose logits are the parameters instead of weights."""
    active_layers: list | None = None
    """Layers with gradients; None: all. Estimators may skip the terms of others."""
    hard_rollout: Callable[..., Rollout] | None = None
    """(x, noise) -> rollout at hard samples, if several estimators share it."""
    baseline: Callable[[int, str], Any] | None = None
    """(seed, name) -> new baseline of the model's own, a function (x, n_samples) -> [N]."""
    variables: list | None = None
    """All variables to save; None: the trainable ones."""


def bind(model: Any, noise: Noise) -> Any:
    """Return a model with the noise of an estimate."""
    with_noise = capability(model, "with_noise")
    return model if with_noise is None else with_noise(noise)


def capability(model: Any, name: str) -> Any:
    """Return an optional attribute of a model, or its default in `Capabilities`."""
    return getattr(model, name, getattr(Capabilities, name))


__all__ = [
    "Capabilities",
    "Estimate",
    "Model",
    "Noise",
    "Rollout",
    "Sampler",
    "Shapes",
    "bind",
    "capability",
]
