"""A Keras model that is trained by an estimator, and straight-through layers."""

from rebar.keras.callbacks import GradientVariance
from rebar.keras.layers import StraightThrough
from rebar.keras.model import Model

__all__ = ["GradientVariance", "Model", "StraightThrough"]
