"""Several estimators on one trajectory (2017: SBNTrackGradVariances).

All estimators use the same batch and noise (one with another number of samples shares the first of
them, see `noise.with_samples`); the model follows one of them, and each learns its
control variates. Their gradients are returned side by side, and training records the moments of
each. Unbiased if the followed estimator is.

Source: the 2017 code, which follows SimpleMuProp (its docstring says NVIL).
"""

import tensorflow as tf

from rebar import registry
from rebar.errors import RebarError
from rebar.estimators.base import Estimator, checked_estimate
from rebar.noise import with_samples
from rebar.types import Estimate, Model, Noise, Rollout, Shapes


class Tracked(Estimator):
    """Estimators side by side, one of which is followed.

    Args:
      estimators: label -> estimator.
      follow: label of the estimator whose gradient trains the model.

    Metrics: the multi-sample bound, if it is followed; temperature, its gradient and that squared
    (2017), per estimator with a weight `log_temperature`. With several of them, names end in the
    label: "temperature/DynamicREBAR".

    Raises:
      RebarError: `follow` is not among the estimators.
    """

    def __init__(self, estimators, follow, **kwargs):
        super().__init__(**kwargs)
        if follow not in estimators:
            raise RebarError(
                f"follow={follow}: not tracked; add it to track, or choose from "
                f"{', '.join(estimators)}"
            )
        self.labels = list(estimators)
        self.follow = follow
        self.estimators = list(estimators.values())
        self.unbiased = estimators[follow].unbiased
        self.objective = estimators[follow].objective
        self.samples_per_chain = estimators[follow].samples_per_chain
        self.jit_pays = all(estimator.jit_pays for estimator in self.estimators)
        self.branches = any(estimator.branches for estimator in self.estimators)
        self.couples_rows = estimators[follow].couples_rows

    @classmethod
    def from_hparams(cls, hparams):
        """Build the estimators of hparams.track, following hparams.follow."""
        estimators = {}
        for label in hparams.track:
            member = hparams.member(label)
            estimator = estimators[label] = registry.make_estimator(member.model, member)
            if "n_samples" in member.of_member:
                estimator.own_samples = member.n_samples
        return cls(estimators, hparams.follow)

    def members(self, label: str = "") -> dict[str, Estimator]:
        return dict(zip(self.labels, self.estimators, strict=True))

    def evaluations(self, shapes: Shapes, n_samples: int = 1) -> float:
        """Return the sum over the estimators, although shared passes are computed once."""
        return sum(e.evaluations(shapes, e.own_samples or n_samples) for e in self.estimators)

    def setup(self, model: Model, seed: int = 0) -> None:
        """Set up every estimator."""
        for estimator in self.estimators:
            estimator.setup(model, seed)
        self.unbiased = self._followed(self.estimators).unbiased

    def _followed(self, values):
        """The followed estimator's item of values in the order of the labels."""
        return values[self.labels.index(self.follow)]

    def averaged_labels(self):
        """Return the labels of unbiased estimators of the followed objective.

        REBAR with 2017's coupling is included, as in 2017.
        """
        pairs = zip(self.labels, self.estimators, strict=True)
        followed = self._followed(self.estimators)
        return [
            label
            for label, estimator in pairs
            if type(estimator).unbiased
            and estimator.objective == self.objective
            and estimator.samples_per_chain == self.samples_per_chain
            and (self.objective == "elbo" or estimator.own_samples == followed.own_samples)
        ]

    def common_gradients(self, model):
        """Return labels, and positions of variables whose gradients are equal for those labels."""
        pairs = zip(self.labels, self.estimators, strict=True)
        inference = set(map(id, model.inference_variables))
        return (
            [label for label, e in pairs if e.generator_at_hard and not e.own_samples],
            [i for i, v in enumerate(model.trainable_variables) if id(v) not in inference],
        )

    def estimate(self, model: Model, x: tf.Tensor, noise: Noise) -> Estimate:
        estimates = [
            checked_estimate(e, model, x, with_samples(noise, e.own_samples or noise.n_samples))
            for e in self.estimators
        ]
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

    def metrics_at(self, model: Model, x: tf.Tensor, noise: Noise, hard: Rollout) -> dict:
        followed = self._followed(self.estimators)
        return {
            **_bound(followed.metrics_at(model, x, noise, hard)),
            **{f"temperature{end}": self._temperature(i) for i, end in self._temperature_owners()},
        }

    def _temperature(self, i):
        return tf.exp(tf.convert_to_tensor(self.estimators[i].log_temperature))

    def _temperature_owners(self):
        """(position, suffix of metrics' names) per estimator that learns a temperature."""
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
    """The multi-sample bound in an estimator's metrics, if any."""
    return {name: value for name, value in metrics.items() if name == "multi_sample_bound"}
