"""Base class of estimators that can follow the multi-sample bound."""

import tensorflow as tf

from rebar.core import bound_gradients, bounds, gradients
from rebar.estimators.base import Estimator
from rebar.types import Model, Noise, Rollout


class MultiSample(Estimator):
    """Estimator of the gradient of L = log 1/K sum_k exp f_k instead of the mean of f.

    For one sample both are equal, and so are the estimates.

    Args:
      multi_sample: follow the bound.
      n_samples: S in training. Evaluations with more samples report the bound of as many as in
        training; None: of all.

    Metrics, if the bound is followed: "multi_sample_bound", its mean over examples in nats.
    """

    def __init__(self, multi_sample=False, n_samples=None, **kwargs):
        super().__init__(**kwargs)
        self.n_samples = n_samples
        if multi_sample:
            self.objective = "bound"
            self.generator_at_hard = False

    @property
    def follows_bound(self) -> bool:
        """True for the bound, False for the ELBO."""
        return self.objective == "bound"

    def reported(self, objective: tf.Tensor, n_samples: int) -> tf.Tensor:
        """Return f [K, B] of the reported chains from rows [N] of n_samples per example."""
        f = bounds.split_samples(objective, n_samples)
        if not self.follows_bound:
            return f
        chains = (self.n_samples or n_samples) // self.samples_per_chain
        return f[: max(1, chains)]

    def bound_metrics(self, f: tf.Tensor) -> dict:
        """Return the bound of chains f [K, B], if it is followed."""
        if not self.follows_bound:
            return {}
        return {"multi_sample_bound": tf.reduce_mean(bounds.multi_sample(f))}

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        return self.bound_metrics(self.reported(hard.objective, noise.n_samples))

    def score_gradient(self, tape, hard, signal, n_samples, variables):
        """Return the gradient with learning signal [N]; the bound needs a persistent tape."""
        if self.follows_bound:
            return bound_gradients.score_gradient(tape, hard, signal, n_samples, variables)
        return gradients.score_gradient(tape, hard, [signal], variables)
