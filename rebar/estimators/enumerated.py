"""CatExact: the gradient without any noise of the latents, by enumerating all codes.

    g = - mean_x sum_z q(z | x) [ f(x, z) d log q(z | x)  +  d f at fixed z ]

Exact for d E_q f. C^L evaluations of f an image, so it is for small codes: at most
`enumeration.MAX_STATES`, e.g. 4 variables of 8 categories, where a step takes 4096 times the work
of a sampled one. Learns nothing. The objective that it returns is the exact ELBO of each image.
"""

from rebar.core import enumeration
from rebar.estimators.base import Estimator
from rebar.types import Estimate


class Enumerated(Estimator):
    """See the module's docstring. Metrics: none."""

    unbiased = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._codes = 1

    def setup(self, model, seed=0):
        """Refuse what has too many codes."""
        del seed
        self._codes = enumeration.states_of(model)[0].shape[0]

    def evaluations(self, n_layer: int, n_samples: int = 1) -> float:
        """Of every code."""
        return self._codes

    def estimate(self, model, x, noise):
        """Compute the gradient; x [B, D]. The noise is not used."""
        del noise
        elbo, gradient = enumeration.elbo_and_gradient(model, x)
        return Estimate(gradient, [], elbo, {})
