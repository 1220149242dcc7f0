"""Structured prediction (task sp): the lower half y of an image given its upper half c.

`ConditionalSBN`, any number of layers:

    p(y, b | c) = p(b_L | c) p(b_{L-1} | b_L) ... p(y | b_1),    q(b | x) with x = (c, y)
    f = log p(y, b | c) - log q(b | x),    E_q f <= log p(y | c)

`SingleLayerConditional`, the 2017 objective: samples are from the conditional prior, whose input is
c, and only the last latent layer generates:

    f = log p(y | b_L),    E_{p(b | c)} f <= log p(y | c)

At one layer both are bounds of a proper model. Above, the 2017 generator has a single stochastic
layer for any n_layer (the erratum of the 2017 code). The objectives are bounds of different models,
so their values are not comparable.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar.core import families
from rebar.errors import RebarError
from rebar.models.networks import Transformation
from rebar.models.sbn import SigmoidBeliefNetwork
from rebar.noise import Noise
from rebar.types import Sampler


def _require_images(x):
    if x is None:
        raise RebarError(
            "x=None: must be images for conditional models; use sample(noise, x=images)"
        )


class _HalvedImages(SigmoidBeliefNetwork):
    """Base class of conditional models: the upper half is the input, the lower the target."""

    def _split_images(self) -> None:
        """Set `half`. Raises RebarError for an odd number of pixels, or a fixed prior."""
        if self.n_input % 2:
            raise RebarError(
                f"n_input={self.n_input}: must be even for conditional models (task sp), which "
                "split images into two halves"
            )
        if self._config["prior"] == "uniform":
            raise RebarError(
                "prior=uniform: unsupported by conditional models, whose prior is a network of the "
                "upper half; remove it"
            )
        self.half = self.n_input // 2

    def upper_half(self, x: tf.Tensor) -> tf.Tensor:
        """Upper half [B, D / 2] as an input of networks."""
        return self.network_input(x)[:, : self.half]

    def targets(self, x: tf.Tensor) -> tf.Tensor:
        """Lower half [B, D / 2]."""
        return x[:, self.half :]


@keras.saving.register_keras_serializable("rebar")
class ConditionalSBN(_HalvedImages):
    """Model of p(lower half | upper half) with L layers and a conditional prior network.

    Arguments and errors are those of `SigmoidBeliefNetwork`; n_input must be even.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"name": "conditional_sbn", **kwargs})

    objective_name = "conditional=multilayer: log p(lower half, b | upper half) - log q(b | image)"

    def _create_networks(self, mean: np.ndarray, shared: dict[str, Any]) -> None:
        self._split_images()
        n_units = self._config["n_units"]
        self.prior = Transformation(
            self.half,
            self.n_units[-1],
            n_hidden=self.n_units[-1] if shared["nonlinear"] else 0,
            name="prior",
            **{name: value for name, value in shared.items() if name != "nonlinear"},
        )
        self.recognition = self._recognition(self.n_input, shared)
        self._create_generator(n_units, mean[self.half :], shared)

    def prior_logits(self, x: tf.Tensor) -> tf.Tensor:
        """Logits [B, ...] of p(b_L | upper half of x)."""
        return families.shaped(self.prior(self.upper_half(x)), self.latent_shapes[-1])

    def sample(self, noise: Noise, x: tf.Tensor | None = None) -> tf.Tensor:
        """Means of the pixels [N, D / 2] of the lower half for images x [B, D] (required)."""
        _require_images(x)
        return super().sample(noise, x)


@keras.saving.register_keras_serializable("rebar")
class SingleLayerConditional(_HalvedImages):
    """Conditional model of 2017: b ~ p(b | upper half), f = log p(lower half | b_L).

    The network of p(b | upper half) is called `recognition`, as in 2017. Arguments and errors are
    those of `SigmoidBeliefNetwork`; n_input must be even.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"name": "single_layer_conditional", **kwargs})

    objective_name = "conditional=2017: log p(lower half | b_L), b drawn given the upper half"

    def _create_networks(self, mean: np.ndarray, shared: dict[str, Any]) -> None:
        self._split_images()
        n_units = self._config["n_units"]
        self.recognition = self._recognition(self.half, shared)
        self._create_generator(n_units[-1:], mean[self.half :], shared)

    @property
    def prior_variables(self) -> list:
        """Return []; the variables of the prior are `inference_variables`."""
        return []

    def condition(self, x: tf.Tensor) -> tf.Tensor:
        """Upper half [B, D / 2] as an input of networks."""
        return self.upper_half(x)

    def log_joint(
        self, x: tf.Tensor, samples: Sequence[tf.Tensor], n_samples: int = 1
    ) -> tf.Tensor:
        """log p(y | b_L) [N] in nats."""
        return self.log_likelihood(x, samples[-1], n_samples)

    def objective(self, log_joint: tf.Tensor, log_q: Sequence[tf.Tensor]) -> tf.Tensor:
        """f = log p(y | b_L), without log_q, because samples are from the model."""
        return log_joint

    def sample(self, noise: Noise, x: tf.Tensor | None = None) -> tf.Tensor:
        """Means of the pixels [N, D / 2] of the lower half for images x [B, D] (required)."""
        _require_images(x)
        return self.reconstruct(x, noise)

    def _decode(self, x: tf.Tensor, sampler: Sampler, n_samples: int = 1) -> tf.Tensor:
        x = tf.cast(x, self.compute_dtype)
        samples, _ = self.recognition(self.condition(x), sampler=sampler, n_samples=n_samples)
        return self.likelihood.mean(self.generator(samples[-1], layer=0))
