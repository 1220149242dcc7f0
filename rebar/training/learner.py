"""Everything that a run changes, and one step of it.

A learner holds a model, an estimator, their optimizers and the gradient's moments. A step
takes all gradients before any update, as the 2017 code did, and reports what held before the
update. It knows neither names of estimators nor those of models.

Gradients are those of means over the rows of a minibatch, whatever the estimator, so that a rate
means the same for all: Adam hardly tells a mean from a sum, but gradient descent does.
"""

import tensorflow as tf

from rebar.core import gradients
from rebar.errors import RebarError
from rebar.estimators.base import Estimator, checked_estimate
from rebar.noise import Noise
from rebar.training import optimizers
from rebar.training.moments import Moments
from rebar.training.optimizers import Rates
from rebar.types import Estimate, capability

CONTROL_RATE = 10
"""How many times faster the control variates learn than the model (2017)."""

RESERVED = {
    *("bound", "elbo", "epoch", "estimator_variance", "eval_samples", "finite", "log_variance"),
    "log_variance_q",
    *("nonfinite", "seconds", "step", "test", "test_elbo", "valid", "valid_elbo"),
    "variance_draws",
}
"""Names that an estimator's metrics must not have: columns of training's own records."""


class Learner:
    """A model, an estimator and the state of their training.

    Args:
      model: see `rebar.types.Model`.
      estimator: set up already.
      learning_rate: Adam's, of the model; that of the control variates is ten times as high.
      beta2: Adam's decay of the second moment (2017: .99999).
      freeze_generator: train q and the control variates only (2017's eval_mode).
      rates: of parts that do not follow learning_rate; they have optimizers of their own. None:
        all follow.

    Attributes:
      optimizer: of q, and of all of p that has no optimizer of its own.
      watched: what must be finite in a step, in words: the ELBO, the gradient of each variable.
    """

    def __init__(
        self,
        model,
        estimator: Estimator,
        learning_rate: float,
        beta2: float = 0.99999,
        freeze_generator: bool = False,
        rates: Rates | None = None,
    ):
        self.model = model
        self.estimator = estimator
        rates = rates or Rates()
        if freeze_generator:
            variables = model.inference_variables
            make = optimizers.MODEL_OPTIMIZERS[rates.optimizer]
            self._updates = {"optimizer": (make(learning_rate, beta2, variables), variables)}
        else:
            self._updates = optimizers.for_model(model, learning_rate, beta2, rates)
        self.optimizer, _ = self._updates["optimizer"]
        self.control_optimizer = optimizers.adam(
            rates.control or CONTROL_RATE * learning_rate, beta2, estimator.trainable_variables
        )
        self.labels = list(estimator.labels)
        groups = (
            (self.labels, estimator.averaged_labels(), *estimator.common_gradients(model))
            if self.labels
            else ((), ())
        )
        variables = model.trainable_variables
        inference = set(map(id, model.inference_variables))
        self.moments = Moments(
            variables,
            *groups[:2],
            [i for i, v in enumerate(variables) if id(v) in inference],
            *groups[2:],
        )
        self.watched = self._names()
        self._rescale = tf.function(self.moments.rescale, autograph=False)

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return int(self.optimizer.iterations)

    def named_variables(self) -> dict:
        """Name -> variable: all that must be saved to continue."""
        owners = {
            "model": self.model,
            "estimator": self.estimator,
            **{name: optimizer for name, (optimizer, _) in self._updates.items()},
            "control_optimizer": self.control_optimizer,
        }
        # The position makes the name unique; Keras numbers optimizers, so their name is left out.
        named = {
            f"{prefix}/{i}/{gradients.variable_name(v).split('/')[-1]}": v
            for prefix, owner in owners.items()
            if owner is not None
            for i, v in enumerate(capability(owner, "variables") or owner.trainable_variables)
        }
        return named | self.moments.named_variables()

    def step(self, x: tf.Tensor, noise: Noise) -> tuple[dict, dict, tf.Tensor]:
        """Estimate, update, remember; x [B, D]. See `begin_block`, too.

        Returns:
          metrics: name -> scalar, "elbo" first, then the estimator's, then the moments'.
          variances: label (or "") -> scalar, of the moments before this step, over all components;
            then label + moments.OF_PART -> scalar, over those of q.
          finite: whether the ELBO and all gradients are finite, a boolean scalar.
        """
        return self.watched_step(x, noise)[:3]

    def watched_step(self, x: tf.Tensor, noise: Noise) -> tuple:
        """As `step`, and in the fourth place which number is the first that is not finite.

        That is an index into `watched`, 0 if there is none.
        """
        estimate = checked_estimate(self.estimator, self.model, x, noise)
        taken = RESERVED & set(estimate.metrics)
        if taken:
            raise RebarError(
                f"{type(self.estimator).__name__} reports metrics named "
                f"{', '.join(sorted(taken))}: reserved for training; rename them in its estimate() "
                "and metrics()"
            )
        variances, moment_metrics = self.moments.values()
        metrics = {
            "elbo": tf.reduce_mean(estimate.objective),
            **estimate.metrics,
            **moment_metrics,
        }
        tracked = estimate.tracked or {"": estimate.gradients}
        sums = {label: gradients.sums_of_squares(g) for label, g in tracked.items()}
        # A sum of squares is finite only if every term is.
        terms = [metrics["elbo"], *(value for values in sums.values() for value in values)]
        terms += gradients.sums_of_squares(estimate.control_gradients)
        are_finite = tf.math.is_finite(tf.stack(terms))
        finite = tf.reduce_all(are_finite)
        first = tf.argmin(tf.cast(are_finite, tf.int32), output_type=tf.int32)
        with tf.control_dependencies([*metrics.values(), *variances.values()]):
            self._apply(estimate, finite)
            self.moments.update(tracked, sums)
        return metrics, variances, finite, first

    def _names(self) -> tuple:
        """What a user is told of each number that must be finite, in the order of the terms."""
        paths = gradients.variable_names(self.model.trainable_variables)
        own = gradients.variable_names(self.estimator.trainable_variables)
        return (
            "the ELBO",
            *(
                f"the gradient of {path}" + (f" by {label}" if label else "")
                for label in self.labels or [""]
                for path in paths
            ),
            *(f"the gradient of {path}" for path in own),
        )

    def begin_block(self) -> None:
        """To be called before the first of every hundred steps or so; see `Moments.rescale`."""
        self._rescale()

    def _apply(self, estimate: Estimate, finite: tf.Tensor) -> None:
        by_id = {
            id(v): g
            for v, g in zip(self.model.trainable_variables, estimate.gradients, strict=True)
        }
        for optimizer, variables in self._updates.values():
            optimizer.apply_after(finite, [by_id[id(v)] for v in variables], variables)
        for estimator in self.estimator.members().values():
            estimator.control_trained = True
        if self.control_optimizer is not None:
            self.control_optimizer.apply_after(
                finite, estimate.control_gradients, self.estimator.trainable_variables
            )
