"""Bias, variance and cost of estimators at one model and one batch."""

import functools

from rebar import registry
from rebar.analysis.at_logits import AtLogits
from rebar.analysis.bias_variance import Reference, estimated, measure
from rebar.analysis.meter import Draws, Meter
from rebar.analysis.references import SAMPLES, exact
from rebar.core import enumeration, families
from rebar.errors import RebarError

EXACT = "Exact"


def analyze(model, x, hparams, labels, learned, *, by, draws, reference, seed, jit) -> dict:
    """Measure estimators at the weights of a model.

    Args:
      model: see `rebar.types.Model`.
      x: [B, D] in the model's dtype.
      hparams: settings of the estimators.
      labels: items as in `track`, or model names; empty: all that have a reference.
      learned: label -> estimator with the control variates of a run, if any.
      by: differentiate with respect to the "logits" of each image, or the "weights" of q.
      draws: noise draws per estimator, and of the reference "loo".
      reference: "exact", or "loo": the mean of leave-one-out estimates.
      seed: seed of all randomness.
      jit: compile with XLA.

    Returns:
      "by", "batch_size", "draws", "seed", "jit", "reference" (of the ELBO), and "estimators":
      label -> the numbers of `bias_variance.measure`, with "unbiased", "objective", "control",
      "n_samples", "evaluations" of f and "milliseconds" per estimate.

    Raises:
      RebarError: an unknown estimator, one for other latents or without a reference; "logits" of a
        model that is not categorical; too many states for an exact reference; too few draws.
    """
    subject = AtLogits(model, x) if by == "logits" else model
    kinds = families.kinds(subject)
    names = {
        label: name
        for label, name in registry.labels(hparams.entry.latents).items()
        if kinds.issubset(registry.entry(name).families)
    }
    states = enumeration.count(subject)
    members = {}
    for label in _labels(labels, names, kinds):
        settings = hparams if label in names else hparams.member(label)
        name = names[label.partition("(")[0]]
        estimator, control = _estimator(name, subject, settings, learned.get(label), seed)
        n_samples = registry.entry(name).n_samples(settings.n_samples)
        bound = 0 if estimator.objective == "elbo" else n_samples // estimator.samples_per_chain
        if not bound or (reference == "exact" and states**bound <= enumeration.MAX_TUPLES):
            members[label] = estimator, control, n_samples, bound
        elif labels:
            raise RebarError(
                f"{label} follows the {bound}-sample bound, whose exact gradient needs "
                f"--reference=exact and at most {enumeration.MAX_TUPLES} combinations of {bound} "
                "states; use fewer or narrower layers, or leave it out of --estimators"
            )

    def draw(estimator, n_samples: int, position: int) -> Draws:
        meter = Meter(subject, estimator, n_samples, jit, subject.inference_variables)
        return meter(x, draws, seed, ("analysis", position))

    @functools.cache
    def truth(bound: int) -> Reference:
        if bound or reference == "exact":
            return exact(subject, x, bound)
        estimator, _ = _estimator(names["LOO"], subject, hparams, None, seed)
        about = {"kind": "loo", "draws": draws, "samples": SAMPLES}
        drawn = draw(estimator, SAMPLES, 1)
        return estimated(drawn.moments(), about, drawn)

    record = {"by": by, "batch_size": len(x), "draws": draws, "seed": seed, "jit": jit}
    record |= {"reference": truth(0).record(), "estimators": {}}
    for label, (estimator, control, n_samples, bound) in members.items():
        drawn = draw(estimator, n_samples, 0)
        record["estimators"][label] = {
            **measure(drawn, truth(bound), len(x) if by == "logits" else 0),
            "unbiased": estimator.unbiased,
            "objective": f"{bound}-sample bound" if bound else "elbo",
            "control": control,
            "n_samples": n_samples,
            "evaluations": drawn.evaluations,
            "milliseconds": drawn.milliseconds,
        }
    return record


def _estimator(name, model, hparams, learned, seed):
    """An estimator and a description of its control variates, by default the initial ones."""
    if learned is not None and learned.trainable_variables:
        return learned, "of the run"
    estimator = registry.make_estimator(name, hparams)
    estimator.setup(model, seed)
    return estimator, "initial" if estimator.trainable_variables else "none"


def _labels(wanted, names, kinds) -> list[str]:
    """Labels of the estimators named by label or model, or of all but the exact one."""
    if not wanted:
        return [label for label in names if label != EXACT]
    by_name = {name: label for label, name in names.items()}
    labels = [by_name.get(word, word) for word in wanted]
    unknown = [label for label in labels if label.partition("(")[0] not in names]
    if unknown:
        raise RebarError(
            f"--estimators: {', '.join(map(repr, unknown))} cannot be used with a model of "
            f"{' and '.join(sorted(kinds))} latents; choose from {', '.join(names)}"
        )
    return list(dict.fromkeys(labels))
