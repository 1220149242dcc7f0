"""Every chosen estimator at one model and batch, again and again as the model's weights change."""

import dataclasses
import time

from rebar import registry
from rebar.analysis import bias_variance, chosen, meter, reference, report
from rebar.core import enumeration
from rebar.errors import RebarError

LEAST_DRAWS = 2 * meter.GROUPS


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
      by: "logits" or "weights".
      draws: of each estimator.
      reference: "exact", or "loo": leave-one-out.
      reference_draws, reference_samples: of the latter.
      seed: of all randomness.
      jit: compile with XLA.
    """

    by: str = "weights"
    draws: int = 1024
    reference: str = "exact"
    reference_draws: int = 1024
    reference_samples: int = 32
    seed: int = 0
    jit: bool = False


class Analyser:
    """Measures at the weights that the model has when it is called.

    Args:
      model: see `rebar.types.Model`.
      x: [B, D] in the model's type.
      hparams: settings of the estimators.
      wanted: labels of estimators; empty: all.
      trained: label -> estimator with the control variates of the run.
      settings: see `Settings`.

    Raises:
      RebarError: by the logits of a model that is not categorical; an estimator that does not fit;
        too few draws.
    """

    def __init__(self, model, x, hparams, wanted=(), trained=None, settings=Settings()):
        if min(settings.draws, settings.reference_draws) < LEAST_DRAWS:
            raise RebarError(
                f"draws={settings.draws}, reference_draws={settings.reference_draws}: too few for "
                f"standard errors; give {LEAST_DRAWS} or more"
            )
        self._model, self._x = model, x
        self._settings = settings
        by_logits = settings.by == "logits"
        self._target = meter.by_logits(model, x) if by_logits else meter.by_weights(model)
        self._chosen = chosen.choose(
            wanted, hparams, self._target.model, trained, settings.seed, self._has_bound
        )
        self._meters = {
            label: self._meter(c.estimator, c.n_samples) for label, c in self._chosen.items()
        }
        self._reference_meter = None
        if settings.reference == "loo":
            name = registry.labels(hparams.entry.latents)["LOO"]
            estimator = registry.make_estimator(name, hparams)
            estimator.setup(self._target.model)
            self._reference_meter = self._meter(estimator, settings.reference_samples)

    def _has_bound(self, n_samples):
        """Whether the bound's gradient can be enumerated."""
        tuples = enumeration.count(self._model) ** n_samples
        return self._settings.reference == "exact" and tuples <= enumeration.MAX_TUPLES

    def _meter(self, estimator, n_samples):
        return meter.Meter(self._target, estimator, n_samples, self._settings.jit)

    def __call__(self) -> dict:
        """Measure.

        Returns:
          "by", "batch_size", "draws", "seed", "reference" (of the ELBO), and "estimators": label ->
          the numbers of `bias_variance.measure`, and "unbiased", "objective", "control",
          "n_samples", "evaluations" (of f, for one estimate), "milliseconds" (of one), "seconds"
          (of all).

        Raises:
          RebarError: too many states for an exact reference.
        """
        settings, target = self._settings, self._target
        if target.images:
            target.model.refresh()
        if self._reference_meter is None:
            truth = reference.exact(target, self._model, self._x)
        else:
            truth = reference.leave_one_out(
                self._reference_meter,
                target,
                self._x,
                settings.reference_draws,
                settings.reference_samples,
                settings.seed,
            )
        truths = {0: truth}
        for bound in {c.bound for c in self._chosen.values()} - {0}:
            truths[bound] = reference.exact_bound(target, self._x, bound)
        return {
            "by": settings.by,
            "batch_size": len(self._x),
            "draws": settings.draws,
            "seed": settings.seed,
            "jit": settings.jit,
            "reference": report.reference_record(truth),
            "estimators": {
                label: self._measure(label, truths[c.bound]) for label, c in self._chosen.items()
            },
        }

    def _measure(self, label, truth):
        """The record of one estimator."""
        estimator, n_samples, control = self._chosen[label]
        bound = self._chosen[label].bound
        start = time.perf_counter()
        groups, milliseconds = self._meters[label](
            self._x, self._settings.draws, self._settings.seed, ("analysis", 0), c=truth.gradient
        )
        return {
            **bias_variance.measure(groups, truth, bool(self._target.images)),
            "unbiased": estimator.unbiased,
            "objective": f"{bound}-sample bound" if bound else "elbo",
            "control": control,
            "n_samples": n_samples,
            "evaluations": estimator.evaluations(len(self._target.model.n_units), n_samples)
            * len(self._x),
            "milliseconds": milliseconds,
            "seconds": time.perf_counter() - start,
        }
