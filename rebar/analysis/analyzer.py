"""Bias, variance and cost of estimators at one model and one batch."""

import functools
import time
from typing import Any, NamedTuple

from rebar import registry
from rebar.analysis import bias_variance, references
from rebar.analysis.meter import Meter, by_logits, by_weights
from rebar.core import enumeration
from rebar.errors import RebarError

EXACT = "Exact"


class _Member(NamedTuple):
    """An estimator to measure.

    `control` describes its control variates: "none", "of the run" or "initial". `bound` is the
    number of samples of the multi-sample bound that it follows; 0: it follows the ELBO.
    """

    estimator: Any
    n_samples: int
    control: str
    bound: int
    meter: Meter


class Analyzer:
    """Measures estimators at the weights that the model has at each call.

    Args:
      model: see `rebar.types.Model`.
      x: [B, D] in the model's dtype.
      hparams: settings of the estimators.
      labels: labels or model names of estimators; empty: all that have a reference.
      learned: label -> estimator with the control variates of a run.
      by: differentiate with respect to the "logits" of each image, or the "weights" of q.
      draws: noise draws per estimator.
      reference: "exact", or "loo": the mean of leave-one-out estimates.
      reference_draws: number of these.
      reference_samples: samples per example of each.
      seed: seed of all randomness.
      jit: compile with XLA.

    Raises:
      RebarError: an unknown estimator, one for other latents or without a reference; "logits" of a
        model that is not categorical.
    """

    def __init__(
        self,
        model,
        x,
        hparams,
        labels=(),
        learned=None,
        *,
        by="weights",
        draws=1024,
        reference="exact",
        reference_draws=1024,
        reference_samples=32,
        seed=0,
        jit=False,
    ):
        self._x = x
        self._by, self._draws, self._seed, self._jit = by, draws, seed, jit
        self._target = by_logits(model, x) if by == "logits" else by_weights(model)
        names = registry.labels(hparams.entry.latents)
        self._members = {}
        for label in _labels(labels, names):
            member = self._member(names[label], hparams, (learned or {}).get(label))
            tuples = enumeration.count(model) ** member.bound
            if not member.bound or (reference == "exact" and tuples <= enumeration.MAX_TUPLES):
                self._members[label] = member
            elif labels:
                raise RebarError(
                    f"{label} follows the {member.bound}-sample bound, whose exact gradient needs "
                    f"--reference=exact and at most {enumeration.MAX_TUPLES} combinations of "
                    f"{member.bound} states; use fewer or narrower layers, or leave it out of "
                    "--estimators"
                )
        self._reference = functools.partial(references.exact, self._target, model, x)
        if reference == "loo":
            estimator = registry.make_estimator(names["LOO"], hparams)
            estimator.setup(self._target.model)
            meter = Meter(self._target, estimator, reference_samples, jit)
            arguments = meter, self._target, x, reference_draws, reference_samples, seed
            self._reference = functools.partial(references.leave_one_out, *arguments)

    def _member(self, name, hparams, estimator):
        """The estimator of a model name, by default with initial control variates."""
        control = "of the run"
        if estimator is None or not estimator.trainable_variables:
            estimator = registry.make_estimator(name, hparams)
            estimator.setup(self._target.model, self._seed)
            control = "initial" if estimator.trainable_variables else "none"
        n_samples = registry.entry(name).n_samples(hparams.n_samples)
        bound = 0 if estimator.objective == "elbo" else n_samples // estimator.samples_per_chain
        meter = Meter(self._target, estimator, n_samples, self._jit)
        return _Member(estimator, n_samples, control, bound, meter)

    def __call__(self) -> dict:
        """Measure.

        Returns:
          "by", "batch_size", "draws", "seed", "jit", "reference" (of the ELBO), and "estimators":
          label -> the numbers of `bias_variance.measure`, with "unbiased", "objective", "control",
          "n_samples", "evaluations" of f and "milliseconds" per estimate, and "seconds".

        Raises:
          RebarError: too many states for an exact reference, or too few draws.
        """
        target = self._target
        if target.images:
            target.model.refresh()
        truths = {0: self._reference()}
        for bound in {member.bound for member in self._members.values()} - {0}:
            truths[bound] = references.exact_bound(target, self._x, bound)
        return {
            "by": self._by,
            "batch_size": len(self._x),
            "draws": self._draws,
            "seed": self._seed,
            "jit": self._jit,
            "reference": truths[0].record(),
            "estimators": {
                label: self._measure(member, truths[member.bound])
                for label, member in self._members.items()
            },
        }

    def _measure(self, member, truth):
        """The record of one estimator."""
        start = time.perf_counter()
        groups, milliseconds = member.meter(
            self._x, self._draws, self._seed, ("analysis", 0), c=truth.gradient
        )
        passes = member.estimator.evaluations(len(self._target.model.n_units), member.n_samples)
        return {
            **bias_variance.measure(groups, truth, bool(self._target.images)),
            "unbiased": member.estimator.unbiased,
            "objective": f"{member.bound}-sample bound" if member.bound else "elbo",
            "control": member.control,
            "n_samples": member.n_samples,
            "evaluations": passes * len(self._x),
            "milliseconds": milliseconds,
            "seconds": time.perf_counter() - start,
        }


def _labels(wanted, names) -> list[str]:
    """Labels of the estimators named by label or model, or of all but the exact one."""
    if not wanted:
        return [label for label in names if label != EXACT]
    by_name = {name: label for label, name in names.items()}
    labels = [by_name.get(word, word) for word in wanted]
    unknown = [label for label in labels if label not in names]
    if unknown:
        raise RebarError(
            f"--estimators: {', '.join(map(repr, unknown))} cannot be used with a model of "
            f"{registry.entry(next(iter(by_name))).latents} latents; choose from "
            f"{', '.join(names)}"
        )
    return list(dict.fromkeys(labels))
