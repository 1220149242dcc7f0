"""Exact gradient, by enumeration of all states of the latent variables (CatExact).

    g = - mean_x sum_z q(z | x) [ f(x, z) d log q(z | x)  +  d f at fixed z ]

Exact for d E_q f; if an objective has reparameterized sites, too, unbiased, with one draw of them
per state. One evaluation of f per state, at most `enumeration.MAX_STATES`, e.g. 4096 for 4
variables of 8 categories or 12 binary units; a single one, at any size, where the model has E_q f
in closed form. Nothing is learned. The returned objective is the exact mean of f per example, for
each of its samples.
"""

from typing import Any

import tensorflow as tf

from rebar.core import enumeration
from rebar.estimators.base import Estimator
from rebar.types import Estimate, Model, Noise, Shapes, capability


class Enumerated(Estimator):
    """See the module's docstring. Metrics: none."""

    unbiased = True
    families = ("bernoulli", "categorical")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._states = 1

    def setup(self, model: Model, seed: int = 0) -> None:
        """Count the states; RebarError if there are too many."""
        del seed
        if capability(model, "expected_objective") is None:
            self._states = enumeration.states_of(model)[0].shape[0]

    def evaluations(self, shapes: Shapes, n_samples: int = 1) -> float:
        return self._states

    def estimate(self, model: Model, x: Any, noise: Noise) -> Estimate:
        mean, gradient = enumeration.exact_elbo_and_gradient(model, x)
        # Objectives reshape by samples, although one sum serves all of them.
        copies = noise.n_samples if capability(model, "sites") else 1
        return Estimate(gradient, [], tf.tile(mean, [copies]), {})
