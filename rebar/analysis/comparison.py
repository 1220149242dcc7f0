"""`rebar.compare_estimators`: bias, variance and cost of estimators for an objective."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf

from rebar import registry
from rebar.analysis.bias_variance import NO_BIAS, SEEN, Reference, estimated, measure
from rebar.analysis.objective_meter import ObjectiveMeter
from rebar.analysis.references import SAMPLES
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.objectives.estimate import estimator
from rebar.objectives.per_site import PerSite

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUPS = 20
"""Maximum number of groups of draws."""

REFERENCE = 2
"""Last word of the seed of a reference's draws."""

ROUNDING = 1e-5
"""A bias relative to the reference that rounding can explain."""


class Compared(NamedTuple):
    """Bias, variance and cost of one estimator.

    Parts of the gradient are "total", every discrete site (the gradient with respect to its
    logits, summed over the samples of an example), and every group of variables. Bias, cosine and
    signal-to-noise ratio are those of "total".

    Attributes:
      bias: |E g - e| / |e|, for an estimate g and the reference e; nan without a reference.
      bias_limit: the largest bias that is within two standard errors.
      z: square of the bias, divided by its standard error; 0 if noise explains all of the
        distance of the means. Above 2 the bias is significant; an unbiased estimator exceeds it in
        about one of 1000 measurements.
      cosine: between E g and e, with the noise of the mean of draws removed.
      cosine_error: standard error of `cosine`.
      variance: part -> sum over its components of the variance of g.
      standard_error: part -> standard error of `variance`.
      snr: |E g| / sqrt(variance of the total).
      evaluations: evaluations of f per example and estimate; derivatives are not counted.
      milliseconds: measured time per estimate.
      n_samples: samples per example.
      unbiased: as declared by the estimator.
    """

    bias: float
    bias_limit: float
    z: float
    cosine: float
    cosine_error: float
    variance: dict
    standard_error: dict
    snr: float
    evaluations: float
    milliseconds: float
    n_samples: int
    unbiased: bool


class Comparison(NamedTuple):
    """Result of `compare_estimators`; prints as a table.

    Attributes:
      estimators: label -> `Compared`.
      reference: "kind" (Exact or LOO), "norm" |e|, "error", its mean square error, and
        "relative_error", its root divided by |e|; {} without a reference.
      examples: B.
      draws: estimates per estimator.
    """

    estimators: dict[str, Compared]
    reference: dict
    examples: int
    draws: int

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per estimator, with columns such as "z" and "variance/total"."""
        rows = [values._asdict() for values in self.estimators.values()]
        frame = pd.json_normalize(rows, sep="/")
        return frame.set_index(pd.Index(list(self.estimators), name="estimator"))

    def plot(self, path: str | None = None) -> "Figure":
        """Return a figure of bias, variance and time; write it to a path, .png or .pdf, if given.

        Raises:
          RebarError: an unsupported suffix, or the file cannot be written.
        """
        from rebar.analysis import comparison_figure, pictures  # needs Matplotlib

        drawing = comparison_figure.figure(self)
        if path is not None:
            pictures.save(drawing, path)
        return drawing

    def __str__(self):
        table = pd.DataFrame(
            [_cells(values) for values in self.estimators.values()], index=list(self.estimators)
        )
        about = "no reference"
        if self.reference:
            about = f"reference: {self.reference['kind']}, |e| = {self.reference['norm']:.3g}"
            if self.reference["error"]:
                about += (
                    f" with a relative standard error of {self.reference['relative_error']:.2g}"
                )
        lines = [
            f"{self.examples} example{'s' * (self.examples > 1)}, {self.draws} draws; {about}",
            table.loc[:, (table != "").any()].to_string(),
        ]
        if any(values.z <= SEEN for values in self.estimators.values()):
            lines.append(NO_BIAS)
        return "\n".join(lines)


def _cells(values: Compared) -> dict[str, str]:
    """Heading -> text of a row of the table."""
    cells = {"bias": "", "z": "", "cosine": ""}
    if np.isfinite(values.z):
        seen = values.z > SEEN
        cells["bias"] = f"{values.bias:.3g}" if seen else f"<{values.bias_limit:.2g}"
        cells |= {"z": f"{values.z:.1f}", "cosine": f"{values.cosine:.3f}"}
    for part, variance in values.variance.items():
        heading = "variance" if part == "total" else f"of {part}"
        cells[heading] = f"{variance:.3g} ± {values.standard_error[part]:.1g}"
    numbers = {"snr": values.snr, "f": values.evaluations, "ms": values.milliseconds}
    return cells | {name: f"{number:.3g}" for name, number in numbers.items()}


def compare_estimators(
    objective: Callable[..., tf.Tensor],
    *args: Any,
    estimators: Sequence | Mapping[str, Any],
    variables: Sequence | Mapping[str, Sequence] = (),
    reference: str | None = "exact",
    draws: int = 1000,
    fit_steps: int = 200,
    n_samples: int = 1,
    seed: int | Sequence[int] = 0,
    baseline: Any = None,
    jit: bool = False,
) -> Comparison:
    """Measure bias, variance and cost of estimators at fixed parameters and arguments.

    Draw i of an estimator is `rebar.estimate(objective, *args, seed=seed, step=i)`, in a compiled
    loop; all estimators have the same noise. Learned parts are first trained for `fit_steps`, and
    those of instances are restored afterwards. Nothing else is changed.

        result = rebar.compare_estimators(
            elbo, x, estimators=["DisARM", "LOO", "RELAX"], variables={"encoder": encoder_weights}
        )
        print(result)
        result.estimators["RELAX"].variance["encoder"]

    Args:
      objective: f(sample, *args) -> [N], see `rebar.estimate`; it is compiled as by tf.function.
      *args: arguments of f.
      estimators: names, instances, or mappings from sites to either, as in `rebar.estimate`; or
        label -> one of them. LOO, for example, gets at least the two samples that it needs.
      variables: variables for "total", or group -> variables; by default "total" is the gradient
        with respect to the logits of all discrete sites.
      reference: "exact", the sum over all states of the discrete sites (the mean of draws of it if
        there are reparameterized sites); "LOO", the mean of `draws` leave-one-out estimates of 32
        samples, whose error is part of the standard errors; or None.
      draws: estimates per estimator, at least 4.
      fit_steps: training steps of learned parts, by Adam.
      n_samples: samples per example.
      seed: non-negative integer or several.
      baseline: see `rebar.estimate`.
      jit: compile with XLA: takes seconds, then draws faster.

    Raises:
      RebarError: no or unknown estimators, one with `forward_temperature`, an unknown reference, a
        group named like a site, too few draws, more than `enumeration.MAX_STATES` states, or see
        `rebar.estimate`.
    """
    kind = str(reference).lower()
    if kind not in ("exact", "loo", "none"):
        raise RebarError(f"reference={reference!r}: choose from 'exact', 'LOO', None")
    if draws < 4:
        raise RebarError(f"draws={draws}: too few for a standard error; give 4 or more")
    if fit_steps < 0:
        raise RebarError(f"fit_steps={fit_steps}: must be at least 0; give e.g. fit_steps=200")
    words = np.atleast_1d(seed).tolist()
    groups = max(2, min(GROUPS, draws // 2))

    def meter(chosen, samples, *purpose) -> ObjectiveMeter:
        seeds = [*words, *purpose]
        return ObjectiveMeter(objective, args, chosen, variables, samples, seeds, baseline, jit)

    first = meter(estimator("REINFORCE"), 1)
    members = _members(estimators, first.dtype, n_samples)
    truth = None
    if kind != "none":
        by_name = {"exact": ("Exact", 1), "loo": ("LOO", SAMPLES)}
        name, samples = by_name[kind]
        truth = _reference(name, meter(estimator(name), samples, REFERENCE), draws, groups)
    compared = {
        label: _compared(member, meter(member, samples), samples, truth, draws, groups, fit_steps)
        for label, (member, samples) in members.items()
    }
    return Comparison(compared, truth.record() if truth else {}, first.examples, draws)


def _reference(name, meter, draws, groups) -> Reference:
    """Reference for "total": the only draw where there is no noise, else the mean of draws."""
    total = meter.parts["total"]
    if name == "Exact" and not meter.reparameterized:
        return Reference(meter.one((), 0)[total], {"kind": name})
    drawn = meter(draws, groups).part(total)
    return estimated(drawn.moments(), {"kind": name}, drawn)


def _compared(member, meter, n_samples, reference, draws, groups, fit_steps) -> Compared:
    """Train the learned parts of an estimator, measure it, and restore them."""
    saved = member.get_weights()
    try:
        meter.train(fit_steps)
        drawn = meter(draws, groups)
    finally:
        member.set_weights(saved)
    if member.objective == "bound" and n_samples > member.samples_per_chain:
        reference = None
    parts = {
        part: measure(drawn.part(positions), reference if part == "total" else None)
        for part, positions in meter.parts.items()
    }
    total = parts["total"]
    error = total["standard_error"]
    z = limit = np.nan
    if reference is not None:
        with np.errstate(all="ignore"):
            square = max(total["bias_squared"], 0) / reference.norm**2
            deviation = np.hypot(error["bias_squared"] / reference.norm**2, ROUNDING**2)
            z, limit = square / deviation, np.sqrt(square + SEEN * deviation)
    return Compared(
        bias=total.get("relative_bias", np.nan),
        bias_limit=float(limit),
        z=float(z),
        cosine=total.get("expected_cosine", np.nan),
        cosine_error=error.get("expected_cosine", np.nan),
        variance={part: values["variance"] for part, values in parts.items()},
        standard_error={p: values["standard_error"]["variance"] for p, values in parts.items()},
        snr=total["snr"],
        evaluations=drawn.evaluations,
        milliseconds=drawn.milliseconds,
        n_samples=n_samples,
        unbiased=member.unbiased,
    )


def _members(estimators, dtype, n_samples) -> dict[str, tuple[Estimator, int]]:
    """Label -> instance and the smallest suitable number of samples."""
    if isinstance(estimators, str) or not estimators:
        raise RebarError(f"estimators={estimators!r}: must be a list; give e.g. ['DisARM', 'LOO']")
    labels = list(estimators) if isinstance(estimators, Mapping) else []
    chosen = list(estimators.values() if labels else estimators)
    labels = labels or list(map(_label, chosen))
    result = {}
    for i, (label, item) in enumerate(zip(labels, chosen, strict=True)):
        label = label if labels.count(label) == 1 else f"{label} ({labels[:i].count(label) + 1})"
        member = _instance(item, dtype)
        parts = getattr(member, "distinct", [member])
        if any(float(getattr(part, "posterior_temperature", 1)) != 1 for part in parts):
            raise RebarError(
                f"{label}: has another forward_temperature than 1, so it estimates the gradient "
                "of another expectation than the others; divide the logits in the objective by "
                "it, and use forward_temperature=1"
            )
        kinds = map(type, parts)
        entries = [entry for kind in kinds if (entry := registry.entry_of(kind))]
        result[label] = member, registry.suitable_samples(entries, n_samples)
    return result


def _label(item) -> str:
    """Label of a name, an instance, or a mapping from sites to either."""
    if isinstance(item, Mapping):
        return ", ".join(f"{site}: {_label(member)}" for site, member in item.items())
    entry = registry.entry_of(type(item))
    return item if isinstance(item, str) else entry.label if entry else type(item).__name__


def _instance(item, dtype) -> Estimator:
    """The estimator of a name, an instance, or a mapping from sites to either."""
    if isinstance(item, Mapping):
        return PerSite({site: _instance(member, dtype) for site, member in item.items()})
    return estimator(item, dtype=dtype) if isinstance(item, str) else item
