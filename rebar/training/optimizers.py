"""Adam as TensorFlow 1 had it, in one pass over each variable.

    m <- m + (1 - beta1) (g - m),    v <- v + (1 - beta2) (g^2 - v)
    w <- w - lr sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon)

Kingma & Ba 2015, the form at the end of section 2, in which epsilon is not bias-corrected. Keras'
Adam has the same form; its update takes twice as long where it is not compiled.
"""

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam with the update done by TensorFlow's kernel; same arguments, same state."""

    _factor: tf.Tensor | float = 1.0

    def apply_after(self, finite, gradients, variables):
        """Apply, but only once `finite`, a boolean scalar, is known; with rate 0 if it is false.

        `finite` should depend on all that reads the variables. XLA orders by data alone, and copies
        a variable whose update it cannot place after the last use of the old value.
        """
        self._factor = tf.cast(finite, variables[0].dtype)
        self.apply(gradients, variables)
        self._factor = 1.0

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable and its moments."""
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = tf.cast(self.beta_1, dtype), tf.cast(self.beta_2, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=self._factor * tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, dtype),
            grad=gradient,
        )
