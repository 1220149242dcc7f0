"""Double CV, right and with the two faults that an earlier suite certified.

    g = 1/K sum_k { [ f_k + a c_k - mean_{j != k} (f_j + a c_j) ] d log q_k
                    - a p_k (1 - p_k) D_k d logits_k }
    c_k = (b_k - p_k) . D_k,    D_k = mean of df/db_j over j != k

per layer, for K independent chains. Source: Titsias & Shi 2021 (arXiv 2111.05300).
"""

import tensorflow as tf

from rebar.core import bounds, gradients, logit_gradients, samplers
from rebar.estimators.base import Estimator, differentiated_rollout
from rebar.types import Estimate


class DoubleCV(Estimator):
    """One scale per layer, initially 0, learned on the mean square of the logits' gradient."""

    control_off = {"scale": 0.0}  # noqa: RUF012
    generator_at_hard = True
    own_derivative = False
    own_batch = False

    def setup(self, model, seed=0):
        layers = range(len(model.n_units))
        self.scales = [self.add_weight((), "zeros", name=f"scale_{i}") for i in layers]

    def estimate(self, model, x, noise):
        with tf.GradientTape() as tape:
            hard, derivatives = differentiated_rollout(
                model, x, samplers.hard(noise), noise.n_samples
            )
        with tf.GradientTape() as control_tape:
            parts = self._logit_gradients(hard, derivatives, noise.n_samples)
            square = tf.add_n([tf.reduce_mean(tf.square(part)) for part in parts])
        g = gradients.logit_gradient(tape, hard, parts, model.trainable_variables)
        control = control_tape.gradient(square, self.trainable_variables)
        return Estimate(g, control, hard.objective, {})

    def control_objective(self, model, x, noise):
        terms = differentiated_rollout(model, x, samplers.hard(noise), noise.n_samples)
        parts = self._logit_gradients(*terms, noise.n_samples)
        return tf.add_n([tf.reduce_mean(tf.square(part)) for part in parts])

    def _logit_gradients(self, hard, derivatives, n_samples):
        """L x [N, H], of an ascent direction; nothing but the scales is differentiated."""
        f = tf.reshape(tf.stop_gradient(hard.objective), [n_samples, -1])
        layers = zip(hard.samples, hard.logits, derivatives, self.scales, strict=True)
        return [
            self._logit_gradient(
                f, b, *map(tf.stop_gradient, (logits, derivative)), tf.convert_to_tensor(scale)
            )
            for b, logits, derivative, scale in layers
        ]

    def _logit_gradient(self, f, b, logits, derivative, scale):
        """[N, H], of an ascent direction."""
        n_samples = f.shape[0]

        b, p, d = (bounds.by_sample(v, n_samples) for v in (b, tf.sigmoid(logits), derivative))
        others = (tf.reduce_sum(d, axis=0) - d) / (n_samples - 1)
        c = tf.reduce_sum((b - p) * (d if self.own_derivative else others), axis=-1)
        if self.own_batch:
            centered = c - tf.reduce_mean(c)
            scale = -tf.reduce_sum(f * centered) / (tf.reduce_sum(tf.square(centered)) + 1e-6)
        signal = logit_gradients.leave_one_out(f + scale * c)[:, :, tf.newaxis]
        return tf.reshape(signal * (b - p) - scale * p * (1 - p) * others, [-1, b.shape[-1]])


class OwnDerivative(DoubleCV):
    """The control variate of a sample sees the derivative at this sample."""

    own_derivative = True


class OwnBatch(DoubleCV):
    """The scale is fitted to the batch that it is used on."""

    own_batch = True

    def setup(self, model, seed=0):
        self.scales = [0.0] * len(model.n_units)


class OwnBatchDeclared(OwnBatch):
    """The same, declared, so that only few rows show the bias."""

    couples_rows = True
