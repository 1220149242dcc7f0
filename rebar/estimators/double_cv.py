"""Double control variates: leave-one-out with a linear control variate (SBNDoubleCV, CatDoubleCV).

With K samples b^1 ... b^K of each example, complete chains through all layers, let m_k and J_k be
the mean and covariance of b_l^k given the layer under it (p and p (1 - p) for Bernoulli units), D_k
the mean of df/db_l^j over the other samples j != k, and c_k = (b_l^k - m_k) . D_k. With a scale a
per layer,

    g = - mean_x 1/K sum_k [ sum_l ( (f_k + a c_k - mean_{j != k} (f_j + a c_j)) d log q_l(b^k)
                                     - (a J_k D_k) . d logits_l^k )
                             + d log p(x, b^k) ]

Unbiased for the ELBO: E[c_k (b_l^k - m_k)] = J_k D_k, since D_k does not depend on sample k, and
the mean of c_j given the layers under l and the other samples is 0, so that the term of sample k
has a baseline of mean zero although c_j depends on it. Exact for f linear in b_l and a = -1.

K evaluations of f, and their derivatives with respect to the samples (one backward pass). If f has
no derivative, this is LOO. K >= 2.

Learned: a per layer, initially 0, by minimizing the mean square of the logits' gradient.

Source: Titsias & Shi 2022 (Double Control Variates for Gradient Estimation in Discrete Latent
Variable Models, arXiv 2111.05300). Differences from the published code: the K samples are chains
through all layers, K evaluations for any number of layers, where that code draws K samples per
layer from the main chain, 1 + K L evaluations; p follows log p at all samples instead of further
ones; categorical layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rebar.core import gradients, logit_gradients, samplers
from rebar.estimators.base import (
    Estimator,
    active_layers,
    differentiated_rollout,
    require_two_samples,
)
from rebar.types import Estimate, Model, Noise, Rollout


class DerivativeControl(Estimator):
    """Base class of estimators that use f and df/db of an example's other samples.

    Subclasses implement `_cotangent`.
    """

    unbiased = True
    generator_at_hard = True

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        require_two_samples(noise, type(self).__name__)
        with tf.GradientTape() as tape:
            hard, derivatives = differentiated_rollout(
                model, x, samplers.hard(noise), noise.n_samples
            )
        variables = self.trainable_variables
        with tf.GradientTape() as control_tape:
            cotangents, square = self._cotangents(model, hard, derivatives, noise.n_samples)
        gradient = gradients.logit_gradient(tape, hard, cotangents, model.trainable_variables)
        control = gradients.gradient_or_zero(control_tape, square, variables)
        metrics = self.metrics_at(model, x, noise, hard)
        return Estimate(gradient, control, tf.stop_gradient(hard.objective), metrics)

    def control_objective(self, model: Model, x: tf.Tensor, noise: Noise) -> tf.Tensor:
        """Return the mean square of the logits' gradient, summed over layers."""
        rollout = differentiated_rollout(model, x, samplers.hard(noise), noise.n_samples)
        return self._cotangents(model, *rollout, noise.n_samples)[1]

    def _cotangents(
        self, model: Model, hard: Rollout, derivatives: Sequence[tf.Tensor], n_samples: int
    ) -> tuple:
        """Return L x [N, ...] cotangents of the logits, for ascent, and their mean square.

        They are 0 for layers without gradients.
        """
        f = tf.stop_gradient(hard.objective)
        layers = list(zip(hard.samples, hard.logits, derivatives, strict=True))
        cotangents = [tf.zeros_like(logits) for logits in hard.logits]
        for layer in active_layers(model, len(cotangents)):
            values = map(tf.stop_gradient, layers[layer])
            cotangents[layer] = self._cotangent(layer, n_samples, f, *values)
        return cotangents, tf.add_n([tf.reduce_mean(tf.square(c)) for c in cotangents])

    def _cotangent(
        self,
        layer: int,
        n_samples: int,
        f: tf.Tensor,
        b: tf.Tensor,
        logits: tf.Tensor,
        derivative: tf.Tensor,
    ) -> tf.Tensor:
        """Return the cotangent of a layer's logits, [N, ...], for ascent."""
        raise NotImplementedError


class DoubleCV(DerivativeControl):
    """See the module's docstring; n_samples >= 2. Metrics: a per layer."""

    control_off: Mapping[str, float] = {"scale": 0.0}

    def setup(self, model: Model, seed: int = 0) -> None:
        """Create a scale per layer."""
        self.scales: list[Any] = [
            self.add_weight((), "zeros", name=f"scale_{layer}")
            for layer in range(len(model.n_units))
        ]

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        return {f"scale_{i}": tf.convert_to_tensor(scale) for i, scale in enumerate(self.scales)}

    def _cotangent(self, layer, n_samples, f, b, logits, derivative):
        scale = tf.convert_to_tensor(self.scales[layer])
        return logit_gradients.double_cv(f, b, logits, derivative, scale, n_samples)
