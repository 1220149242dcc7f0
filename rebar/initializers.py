"""How weights begin."""

import math

import keras

from rebar import noise


@keras.saving.register_keras_serializable("rebar")
class FanInInitializer(keras.initializers.Initializer):
    """Truncated normal with standard deviation sqrt(1.3 * 2 / fan_in), cut at two of them.

    The 2017 code's initializer (slim's variance scaling with factor 2, "FAN_IN"); the factor 1.3
    roughly undoes what the cut takes from the variance.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        return noise.truncated_normal(self.seed, shape, math.sqrt(1.3 * 2 / shape[0]), dtype)

    def get_config(self):
        return {"seed": self.seed}
