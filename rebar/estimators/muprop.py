"""MuProp, and MuProp without its linear term (2017: SBNMuProp, SBNSimpleMuProp).

With mu the mean-field pass (every variable at its mean; mean_l is layer l's given hard samples
under it) and f'_l the total derivative of f at mu with
respect to layer l's means:

    SimpleMuProp   signal = f(b) - s f(mu) - c(x)
                   g = - mean_n [ signal d log q + d log p ]

    MuProp         signal_l = f(b) - s_l f(mu) - t_l f'_l . (b_l - mu_l) - c_l(x)
                   g = - mean_n [ sum_l ( signal_l d log q_l + t_l f'_l . d mean_l )
                                  + d log p ]

Unbiased for the ELBO: given the layers under it, layer l's control variate is linear in b_l with
coefficients independent of b_l, so its expected score term is t_l f'_l . d mean_l, which
is added back. 1 + K evaluations of f per example with K samples (one at the means), and for MuProp
one derivative of f. Scales s, t (2 sigmoid(raw)) and baselines c are learned by least squares on
the learning signals.

Source: Gu et al. 2016 (arXiv 1511.05176), equations 5-8; scales and the full f as every layer's
signal as in the 2017 code.
"""

from collections.abc import Mapping

import tensorflow as tf

from rebar.core import families, gradients, samplers
from rebar.estimators.base import (
    Estimator,
    differentiated_rollout,
    hard_rollout,
    make_baseline,
    positive_scale,
)
from rebar.types import Estimate, Model, Noise, Rollout, Shapes


class SimpleMuProp(Estimator):
    """See the module's docstring. Metrics: mean-field ELBO in nats."""

    unbiased = True
    generator_at_hard = True
    control_off: Mapping[str, float] = {"scale_mu": -40.0}

    def evaluations(self, shapes: Shapes, n_samples: int = 1) -> float:
        return n_samples + 1

    def setup(self, model: Model, seed: int = 0) -> None:
        """Create the scale of f(mu) and the baseline."""
        self.scale = self.add_weight(shape=(), initializer="zeros", name="scale_mu")
        self.baseline = make_baseline(model, seed, "simple_muprop_baseline")

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
        f = tf.stop_gradient(hard.objective)
        f_mean = model.rollout(x, samplers.mean()).objective
        with tf.GradientTape() as control_tape:
            signal = self._signal(x, f, f_mean, noise.n_samples)
            squared_signal = tf.reduce_mean(tf.square(signal))
        gradient = gradients.score_gradient(tape, hard, [signal], model.trainable_variables)
        control = control_tape.gradient(squared_signal, self.trainable_variables)
        return Estimate(gradient, control, f, {"mean_field_elbo": tf.reduce_mean(f_mean)})

    def _signal(self, x, f, f_mean, n_samples):
        """Learning signal [N] for f [N] and f(mu) [B]."""
        return f - tf.tile(positive_scale(self.scale) * f_mean + self.baseline(x), [n_samples])

    def control_objective(self, model: Model, x: tf.Tensor, noise: Noise) -> tf.Tensor:
        """Return the mean squared learning signal."""
        f = hard_rollout(model, x, noise).objective
        f_mean = model.rollout(x, samplers.mean()).objective
        return tf.reduce_mean(tf.square(self._signal(x, f, f_mean, noise.n_samples)))

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        return {"mean_field_elbo": tf.reduce_mean(model.rollout(x, samplers.mean()).objective)}


class MuProp(Estimator):
    """See the module's docstring. Metrics: mean-field ELBO in nats."""

    unbiased = True
    relaxes = True
    generator_at_hard = True
    control_off: Mapping[str, float] = {"scale_mu": -40.0, "scale_linear": -40.0}

    def evaluations(self, shapes: Shapes, n_samples: int = 1) -> float:
        return n_samples + 1

    def setup(self, model: Model, seed: int = 0) -> None:
        """Create a scale of f(mu), a scale of the linear term and a baseline for each layer."""
        layers = range(len(model.n_units))
        zero = {"shape": (), "initializer": "zeros"}
        self.scales = [self.add_weight(name=f"scale_mu_{i}", **zero) for i in layers]
        self.linear_scales = [self.add_weight(name=f"scale_linear_{i}", **zero) for i in layers]
        self.baselines = [make_baseline(model, seed, f"muprop_baseline_{i}") for i in layers]

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        with tf.GradientTape() as tape:
            hard = hard_rollout(model, x, noise)
        f = tf.stop_gradient(hard.objective)
        mean_field, derivatives = self._mean_field(model, x, noise.n_samples)
        with tf.GradientTape() as control_tape:
            signals = self._signals(x, f, hard, mean_field, derivatives, noise.n_samples)
            squared_signals = tf.reduce_mean(tf.add_n([tf.square(s) for s in signals]))
        linear_terms = [
            families.of(logits).mean_product(logits, positive_scale(scale) * derivative)
            for scale, derivative, logits in zip(
                self.linear_scales, derivatives, hard.logits, strict=True
            )
        ]
        gradient = gradients.score_gradient(
            tape, hard, signals, model.trainable_variables, linear_terms
        )
        control = control_tape.gradient(squared_signals, self.trainable_variables)
        return Estimate(
            gradient, control, f, {"mean_field_elbo": tf.reduce_mean(mean_field.objective)}
        )

    @staticmethod
    def _mean_field(model, x, n_samples):
        """Mean-field rollout at [B] rows, and f'_l [N, ...] per layer."""
        mean_field, derivatives = differentiated_rollout(model, x, samplers.mean())
        return mean_field, [families.repeated(d, n_samples) for d in derivatives]

    def _signals(self, x, f, hard, mean_field, derivatives, n_samples):
        """Learning signals L x [N]."""
        f_mean = families.repeated(mean_field.objective, n_samples)
        return [
            f
            - positive_scale(self.scales[i]) * f_mean
            - positive_scale(self.linear_scales[i])
            * families.row_sum(derivatives[i] * (b - families.repeated(mean, n_samples)))
            - self.baselines[i](x, n_samples=n_samples)
            for i, (b, mean) in enumerate(zip(hard.samples, mean_field.samples, strict=True))
        ]

    def control_objective(self, model: Model, x: tf.Tensor, noise: Noise) -> tf.Tensor:
        """Return the mean over rows of the summed squares of the layers' learning signals."""
        hard = hard_rollout(model, x, noise)
        mean_field, derivatives = self._mean_field(model, x, noise.n_samples)
        signals = self._signals(x, hard.objective, hard, mean_field, derivatives, noise.n_samples)
        return tf.reduce_mean(tf.add_n([tf.square(s) for s in signals]))

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        return {"mean_field_elbo": tf.reduce_mean(model.rollout(x, samplers.mean()).objective)}
