"""Several estimators on one trajectory (2017: SBNTrackGradVariances).

All see the same batch and the same noise; the model follows one of them, and every one learns its
own control variates. Their gradients are returned side by side, so that training can keep the
moments of each. As unbiased as the estimator followed.

Source: the 2017 code, which follows SimpleMuProp (its docstring says NVIL).
"""

import tensorflow as tf

from rebar import registry
from rebar.errors import RebarError
from rebar.estimators.base import Estimator, checked_estimate
from rebar.types import Estimate


class Tracked(Estimator):
    """Runs estimators side by side and follows one.

    Args:
      estimators: label -> estimator.
      follow: the label whose gradient trains the model.

    Metrics: the multi-sample bound, if the one followed follows it; temperature, its gradient and
    that squared (2017), for each estimator that learns one, by a weight that is called
    `log_temperature`. Where there are several, the names end in the label:
    "temperature/DynamicREBAR".

    Raises:
      RebarError: `follow` is not among the estimators.
    """

    def __init__(self, estimators, follow, **kwargs):
        super().__init__(**kwargs)
        if follow not in estimators:
            raise RebarError(
                f"follow={follow} is not tracked; tracked: {', '.join(estimators)}. "
                "Add it to track=[...] or follow one of these"
            )
        self.labels = list(estimators)
        self.follow = follow
        self.estimators = list(estimators.values())
        self.unbiased = estimators[follow].unbiased
        self.objective = estimators[follow].objective
        self.samples_per_chain = estimators[follow].samples_per_chain
        self.jit_pays = all(estimator.jit_pays for estimator in self.estimators)
        self.branches = any(estimator.branches for estimator in self.estimators)

    @classmethod
    def from_hparams(cls, hparams):
        """The estimators of hparams.track, following hparams.follow."""
        names = registry.labels(registry.entry(hparams.model).latents)
        estimators = {
            label: registry.make_estimator(names[label], hparams) for label in hparams.track
        }
        return cls(estimators, hparams.follow)

    def members(self, label=""):
        """Label -> estimator."""
        return dict(zip(self.labels, self.estimators, strict=True))

    def evaluations(self, n_layer: int, n_samples: int = 1) -> float:
        """The sum over the estimators, though what they share is computed once."""
        return sum(e.evaluations(n_layer, n_samples) for e in self.estimators)

    def setup(self, model, seed=0):
        """Set up every estimator."""
        for estimator in self.estimators:
            estimator.setup(model, seed)
        self.unbiased = self._followed(self.estimators).unbiased

    def _followed(self, values):
        """The one followed, of values in the order of the labels."""
        return values[self.labels.index(self.follow)]

    def averaged_labels(self):
        """Labels whose mean gradients estimate one number: those not biased by design that follow
        the objective of the one followed.

        REBAR with 2017's coupling is among them, as it was in 2017.
        """
        pairs = zip(self.labels, self.estimators, strict=True)
        return [
            label
            for label, estimator in pairs
            if type(estimator).unbiased
            and estimator.objective == self.objective
            and estimator.samples_per_chain == self.samples_per_chain
        ]

    def common_gradients(self, model):
        """Labels, and positions of variables, whose gradients are the same for those labels."""
        pairs = zip(self.labels, self.estimators, strict=True)
        inference = set(map(id, model.inference_variables))
        return (
            [label for label, estimator in pairs if estimator.generator_at_hard],
            [i for i, v in enumerate(model.trainable_variables) if id(v) not in inference],
        )

    def estimate(self, model, x, noise):
        """Estimate with every method; x [B, D]."""
        estimates = [checked_estimate(e, model, x, noise) for e in self.estimators]
        gradients = dict(zip(self.labels, [list(e.gradients) for e in estimates], strict=True))
        labels, indices = self.common_gradients(model)
        for label in labels[1:]:
            for i in indices:
                gradients[label][i] = gradients[labels[0]][i]
        followed = self._followed(estimates)
        control = [
            pair
            for estimator, estimate in zip(self.estimators, estimates, strict=True)
            for pair in zip(estimator.trainable_variables, estimate.control_gradients, strict=True)
        ]
        return Estimate(
            gradients[self.follow],
            self.aligned(*control),
            followed.objective,
            {**_bound(followed.metrics), **self._temperature_metrics(estimates)},
            gradients,
        )

    def metrics(self, model, x, noise, hard):
        """The bound that is followed, if one is, and the temperatures that are learned."""
        followed = self._followed(self.estimators)
        return {
            **_bound(followed.metrics(model, x, noise, hard)),
            **{f"temperature{end}": self._temperature(i) for i, end in self._temperature_owners()},
        }

    def _temperature(self, i):
        return tf.exp(tf.convert_to_tensor(self.estimators[i].log_temperature))

    def _temperature_owners(self):
        """(position, end of its metrics' names) of each estimator that learns a temperature."""
        owners = [i for i, e in enumerate(self.estimators) if e.log_temperature is not None]
        return [(i, f"/{self.labels[i]}" if len(owners) > 1 else "") for i in owners]

    def _temperature_metrics(self, estimates):
        metrics: dict[str, tf.Tensor] = {}
        for i, end in self._temperature_owners():
            estimator = self.estimators[i]
            ids = [id(v) for v in estimator.trainable_variables]
            gradient = estimates[i].control_gradients[ids.index(id(estimator.log_temperature))]
            metrics |= {
                f"temperature{end}": self._temperature(i),
                f"temperature_gradient{end}": gradient,
                f"temperature_gradient_squared{end}": gradient * gradient,
            }
        return metrics


def _bound(metrics):
    """The multi-sample bound of an estimator's metrics, if it has one."""
    return {name: value for name, value in metrics.items() if name == "multi_sample_bound"}
