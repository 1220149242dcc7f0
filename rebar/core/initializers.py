"""Weight initializers."""

import math

import keras

from rebar import noise
from rebar.errors import RebarError


@keras.saving.register_keras_serializable("rebar")
class FanInInitializer(keras.initializers.Initializer):
    """Truncated normal with standard deviation sqrt(1.3 * 2 / fan_in), cut at two of them.

    The 2017 code's initializer (slim's variance scaling with factor 2, "FAN_IN"); the factor 1.3
    approximately compensates for the variance removed by the truncation.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        return noise.truncated_normal(self.seed, shape, math.sqrt(1.3 * 2 / shape[0]), dtype)

    def get_config(self):
        return {"seed": self.seed}


@keras.saving.register_keras_serializable("rebar")
class GlorotInitializer(keras.initializers.Initializer):
    """Uniform in (-a, a) with a = sqrt(6 / (fan_in + fan_out)): Glorot & Bengio 2010, equation 16.

    The default of Keras' dense layers and the DisARM authors' code.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        return noise.centered_uniform(self.seed, shape, math.sqrt(6 / sum(shape)), dtype)

    def get_config(self):
        return {"seed": self.seed}


@keras.saving.register_keras_serializable("rebar")
class FanInUniform(keras.initializers.Initializer):
    """Uniform in (-a, a) with a = 1 / sqrt(fan_in), for kernels and biases: PyTorch's default."""

    def __init__(self, seed: int, fan_in: int):
        self.seed = seed
        self.fan_in = fan_in

    def __call__(self, shape, dtype=None):
        return noise.centered_uniform(self.seed, shape, 1 / math.sqrt(self.fan_in), dtype)

    def get_config(self):
        return {"seed": self.seed, "fan_in": self.fan_in}


_BY_NAME = {"2017": FanInInitializer, "glorot": GlorotInitializer}


def by_name(name: str, seed: int) -> keras.initializers.Initializer:
    """Return the initializer "2017" or "glorot" of dense kernels; RebarError for other names."""
    if name not in _BY_NAME:
        raise RebarError(f"initializer={name!r}: choose from {', '.join(_BY_NAME)}")
    return _BY_NAME[name](seed)
