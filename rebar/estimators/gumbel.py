"""Gumbel-Softmax, or Concrete: the gradient of a relaxed objective (2017: SBNGumbel).

    g = - mean_n d f(x, y),    y = relaxed sample at every layer, differentiated through

BIASED for E_q f at every temperature T > 0; usually less biased and more variable at small T.
f(x, y) uses the formulas of hard samples for log p(y) and log q(y), as in the 2017 code, instead of
the density of the relaxed variable, so it is not a bound either. One relaxed evaluation of f per
row, and a hard one for the log. Nothing is learned; T is constant.

Source: Jang et al. 2016 (arXiv 1611.01144); Maddison et al. 2016 (arXiv 1611.00712). The
relaxation is that of `rebar.core.families`.
"""

import tensorflow as tf

from rebar.core import families, gradients
from rebar.core.validity import positive
from rebar.estimators.base import Estimator, hard_rollout
from rebar.noise import uniforms
from rebar.types import Estimate, Model, Noise, Rollout, Shapes


class GumbelSoftmax(Estimator):
    """See the module's docstring. Metrics: relaxed objective in nats."""

    unbiased = False
    relaxes = True
    through = True

    def __init__(self, temperature=0.5, muprop_relaxation=True, **kwargs):
        super().__init__(**kwargs)
        positive(temperature, "temperature")
        self.temperature = temperature
        self.muprop_relaxation = muprop_relaxation

    def evaluations(self, shapes: Shapes, n_samples: int = 1) -> float:
        return 2 * n_samples

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        hard = hard_rollout(model, x, noise)
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(self._relaxed(model, x, noise).objective)
        gradient = gradients.gradient_or_zero(tape, loss, model.trainable_variables)
        return Estimate(gradient, [], hard.objective, {"relaxed_elbo": -loss})

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        return {"relaxed_elbo": tf.reduce_mean(self._relaxed(model, x, noise).objective)}

    def sample_through(self, logits: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        z = families.of(logits).noise(uniforms(key, tf.shape(logits), logits.dtype))
        return self._relaxed_sample(logits, z)

    def _relaxed_sample(self, logits, z):
        relaxed_sample = families.of(logits).relaxed_sample
        return relaxed_sample(logits, z, self.temperature, self.muprop_relaxation)

    def _relaxed(self, model, x, noise):
        def sampler(layer, logits):
            return self._relaxed_sample(logits, families.noise_at(noise, layer, logits))

        return model.rollout(x, sampler, noise.n_samples)
