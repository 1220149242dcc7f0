"""Double CV with the two faults that an earlier suite certified."""

import tensorflow as tf

from rebar.core import logit_gradients
from rebar.estimators.double_cv import DoubleCV


class OwnDerivative(DoubleCV):
    """The control variate of a sample sees the derivative at this sample, one of two."""

    def _cotangent(self, layer, n_samples, f, b, logits, derivative):
        own = tf.roll(derivative, tf.shape(f)[0] // n_samples, axis=0)
        return super()._cotangent(layer, n_samples, f, b, logits, own)


class OwnBatch(DoubleCV):
    """The scale is fitted to the batch that it is used on."""

    def setup(self, model, seed=0):
        self.scales = {}

    def metrics_at(self, model, x, noise, hard):
        return {}

    def _cotangent(self, layer, n_samples, f, b, logits, derivative):
        others = logit_gradients.mean_of_others(tf.reshape(derivative, [n_samples, -1]))
        d = tf.reshape(others, derivative.shape)
        c = tf.reduce_sum((b - tf.sigmoid(logits)) * d, axis=-1)
        centered = c - tf.reduce_mean(c)
        scale = -tf.reduce_sum(f * centered) / (tf.reduce_sum(tf.square(centered)) + 1e-6)
        self.scales = {layer: scale}
        return super()._cotangent(layer, n_samples, f, b, logits, derivative)


class OwnBatchDeclared(OwnBatch):
    """The same, declared, so that only few rows show the bias."""

    couples_rows = True
