"""The state of training and one step of it.

A step computes all gradients before any update, as the 2017 code did, and reports the state before
the update. Gradients are those of means over the rows of a minibatch for every estimator, so that
learning rates are comparable.
"""

import tensorflow as tf

from rebar.core import gradients
from rebar.errors import RebarError
from rebar.estimators.base import CONTROL_RATE, Estimator, checked_estimate
from rebar.noise import Noise
from rebar.training import optimizers
from rebar.training.moments import Moments
from rebar.training.optimizers import Rates
from rebar.types import Estimate, capability

RESERVED = {
    *("bound", "elbo", "epoch", "estimator_variance", "eval_samples", "finite", "log_variance"),
    *("log_variance_q", "seconds", "step", "test", "test_elbo", "valid"),
    *("valid_elbo", "variance_draws"),
}
"""Invalid names of an estimator's metrics: those of other records of a run."""


class Learner:
    """A model, an estimator and the state of their training.

    Args:
      model: see `rebar.types.Model`.
      estimator: set up for the model.
      learning_rate: of the model; that of the control variates is CONTROL_RATE times as high.
      beta2: Adam's decay of the second moment (2017: .99999).
      freeze_generator: train q and the control variates only (2017's eval_mode).
      rates: learning rates of parts that have separate optimizers.
      numbered: name saved variables by numbers alone: Keras' names of layers that have none depend
        on what the process created before.

    Attributes:
      optimizer: of q, and of the variables of p without a separate optimizer.
    """

    def __init__(
        self,
        model,
        estimator: Estimator,
        learning_rate: float,
        beta2: float = 0.99999,
        freeze_generator: bool = False,
        rates: Rates | None = None,
        numbered: bool = False,
    ):
        self.model = model
        self._numbered = numbered
        self.estimator = estimator
        rates = rates or Rates()
        trained = model.inference_variables if freeze_generator else model.trainable_variables
        self._updates = optimizers.for_model(model, trained, learning_rate, beta2, rates)
        self.optimizer, _ = self._updates["optimizer"]
        control_rate = rates.control or CONTROL_RATE * learning_rate
        self._updates |= optimizers.for_control(estimator, control_rate, beta2)
        self.labels = list(estimator.labels)
        averaged, common = (), ((), ())
        if self.labels:
            averaged, common = estimator.averaged_labels(), estimator.common_gradients(model)
        variables = model.trainable_variables
        inference = set(map(id, model.inference_variables))
        part = [i for i, v in enumerate(variables) if id(v) in inference]
        self.moments = Moments(variables, self.labels, averaged, part, *common)
        self._rescale = tf.function(self.moments.rescale, autograph=False)

    @property
    def steps(self) -> int:
        """Number of steps done."""
        return int(self.optimizer.iterations)

    def named_variables(self) -> dict:
        """Name -> variable: everything to save in a checkpoint."""
        owners = {
            "model": self.model,
            "estimator": self.estimator,
            **{name: optimizer for name, (optimizer, _) in self._updates.items()},
        }
        # The position makes the name unique; the name of an optimizer depends on history.
        named = {
            f"{prefix}/{i}" + f"/{_short_name(v)}" * (not self._numbered): v
            for prefix, owner in owners.items()
            for i, v in enumerate(capability(owner, "variables") or owner.trainable_variables)
        }
        return named | self.moments.named_variables()

    def step(self, x: tf.Tensor, noise: Noise) -> tuple[dict, dict, tf.Tensor]:
        """Estimate at x [B, D], update; call `begin_block` before every hundred steps or so.

        Returns:
          metrics: name -> scalar, "elbo" first, then the estimator's, then the moments'.
          variances: see `Moments.values`; before this step.
          wrong: index into `watched` of the first non-finite number, or -1.
        """
        estimate = checked_estimate(self.estimator, self.model, x, noise)
        if reserved := RESERVED & set(estimate.metrics):
            raise RebarError(
                f"{type(self.estimator).__name__} reports metrics named "
                f"{', '.join(sorted(reserved))}: reserved for training; rename them in its "
                "estimate() and metrics_at()"
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
        wrong = tf.where(finite, -1, first)
        with tf.control_dependencies([*metrics.values(), *variances.values()]):
            self._apply(estimate, finite)
            self.moments.update(tracked, sums)
        return metrics, variances, wrong

    @property
    def watched(self) -> tuple:
        """Descriptions of the numbers that must be finite in a `step`."""
        paths = gradients.variable_names(self.model.trainable_variables)
        ends = [f" by {label}" for label in self.labels] or [""]
        names = [f"the gradient of {path}{end}" for end in ends for path in paths]
        control = gradients.variable_names(self.estimator.trainable_variables)
        return ("the ELBO", *names, *(f"the gradient of {path}" for path in control))

    def begin_block(self) -> None:
        """Rescale the moments, see `Moments.rescale`."""
        self._rescale()

    def _apply(self, estimate: Estimate, finite: tf.Tensor) -> None:
        variables = [*self.model.trainable_variables, *self.estimator.trainable_variables]
        values = [*estimate.gradients, *estimate.control_gradients]
        by_id = {id(v): value for v, value in zip(variables, values, strict=True)}
        for optimizer, variables in self._updates.values():
            optimizer.apply_after(finite, [by_id[id(v)] for v in variables], variables)
        for estimator in self.estimator.members().values():
            estimator.control_trained = True


def _short_name(variable):
    return gradients.variable_name(variable).split("/")[-1]
