"""What estimators have in common that follow the multi-sample bound, or can."""

import tensorflow as tf

from rebar.core import bound_gradients, bounds, gradients
from rebar.estimators.base import Estimator


class MultiSample(Estimator):
    """Base of estimators that follow L = log 1/K sum_k exp f_k in place of the mean of f.

    For one sample both are the same, and so are the estimates.

    Args:
      multi_sample: follow the bound.
      n_samples: S of training. An evaluation has more samples; the bound reported there is that of
        as many as training has. None: of all.

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
        """Whether the bound is followed, not the ELBO."""
        return self.objective == "bound"

    def reported(self, objective: tf.Tensor, n_samples: int) -> tf.Tensor:
        """f of the chains that metrics are about, [K, B], from rows [N] of n_samples an example."""
        f = bounds.split_samples(objective, n_samples)
        if not self.follows_bound:
            return f
        chains = (self.n_samples or n_samples) // self.samples_per_chain
        return f[: max(1, chains)]

    def bound_metrics(self, f: tf.Tensor) -> dict:
        """The bound of chains f [K, B], if it is followed."""
        if not self.follows_bound:
            return {}
        return {"multi_sample_bound": tf.reduce_mean(bounds.multi_sample(f))}

    def metrics(self, model, x, noise, hard):
        """The bound, if it is followed."""
        return self.bound_metrics(self.reported(hard.objective, noise.n_samples))

    def score_gradient(self, tape, hard, signal, n_samples, variables):
        """The gradient with signal [N] as the learning signal of all layers.

        The tape must be persistent if the bound is followed.
        """
        if self.follows_bound:
            return bound_gradients.score_gradient(tape, hard, signal, n_samples, variables)
        return gradients.score_gradient(tape, hard, [signal], variables)
