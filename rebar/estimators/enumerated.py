"""Exact gradient by enumeration of all codes (CatExact).

    g = - mean_x sum_z q(z | x) [ f(x, z) d log q(z | x)  +  d f at fixed z ]

Exact for d E_q f. C^L evaluations of f per image, at most `enumeration.MAX_STATES`, e.g. 4096 for 4
variables of 8 categories. Nothing is learned. The returned objective is the exact ELBO per image.
"""

import tensorflow as tf

from rebar.core import enumeration
from rebar.estimators.base import Estimator
from rebar.types import Estimate, Model, Noise


class Enumerated(Estimator):
    """See the module's docstring. Metrics: none."""

    unbiased = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._codes = 1

    def setup(self, model: Model, seed: int = 0) -> None:
        """Count the codes; RebarError if there are too many."""
        del seed
        self._codes = enumeration.states_of(model)[0].shape[0]

    def evaluations(self, n_layer: int, n_samples: int = 1) -> float:
        return self._codes

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        del noise
        elbo, gradient = enumeration.elbo_and_gradient(model, x)
        return Estimate(gradient, [], elbo, {})
