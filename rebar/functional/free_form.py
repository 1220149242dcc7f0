"""Free-form part of RELAX's control variate, a small network."""

import keras
import tensorflow as tf

from rebar import noise
from rebar.core.initializers import FanInInitializer


@keras.saving.register_keras_serializable("rebar")
class FreeForm(keras.layers.Layer):
    """r(z) = w . tanh(W (2 sigmoid(z) - 1) + a) + c, initially 0.

    Args:
      n_units: H, width of z.
      n_hidden: number of tanh units.
      seed: seed of the initial W.
      dtype: dtype of the logits; by default Keras' policy.
    """

    def __init__(self, n_units, n_hidden=10, seed=0, name="free_form", **kwargs):
        super().__init__(name=name, **kwargs)
        self._config = {"n_units": n_units, "n_hidden": n_hidden, "seed": seed}
        initializer = FanInInitializer(noise.initializer_seed(seed, f"{name}_hidden"))
        self.hidden_weights = self.add_weight(
            shape=(n_units, n_hidden), initializer=initializer, name="hidden_weights"
        )
        self.hidden_biases = self.add_weight(
            shape=(n_hidden,), initializer="zeros", name="hidden_biases"
        )
        self.weights_out = self.add_weight(
            shape=(n_hidden,), initializer="zeros", name="weights_out"
        )
        self.bias_out = self.add_weight(shape=(), initializer="zeros", name="bias_out")
        self.built = True

    def call(self, z):
        """z [B, H] -> [B]."""
        inputs = 2 * tf.sigmoid(z) - 1
        hidden = tf.tanh(tf.matmul(inputs, self.hidden_weights) + self.hidden_biases)
        return tf.linalg.matvec(hidden, tf.convert_to_tensor(self.weights_out)) + self.bias_out

    def get_config(self):
        return {**super().get_config(), **self._config}
