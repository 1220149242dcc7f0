"""Base class of estimators with one gradient per layer, from chains that leave the main one."""

import tensorflow as tf

from rebar.core import gradients
from rebar.estimators.base import Estimator, active_layers, hard_rollout
from rebar.types import Estimate, Model, Noise, Rollout


class Layerwise(Estimator):
    """Base class. Subclasses implement `_cotangent`; p follows log p at the main chain."""

    unbiased = True
    generator_at_hard = True

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
        active = active_layers(model, len(hard.logits))
        cotangents = [
            self._cotangent(model, x, noise, hard, layer)
            if layer in active
            else tf.zeros_like(hard.logits[layer])
            for layer in range(len(hard.logits))
        ]
        gradient = gradients.logit_gradient(tape, hard, cotangents, model.trainable_variables)
        return Estimate(gradient, [], tf.stop_gradient(hard.objective), {})

    def _cotangent(
        self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout, layer: int
    ) -> tf.Tensor:
        """Return the cotangent of a layer's logits, [N, H], for ascent."""
        raise NotImplementedError
