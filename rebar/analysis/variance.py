"""The variance of an estimator alone: fixed parameters, a fixed batch, many draws of the noise.

    V = mean over components of Var[g],    g one estimate of the gradient of -mean f at the batch

The running variance of `moments` mixes the noise of the estimator with that of the minibatches and
follows parameters that move; this one does neither. It is measured in parts: all components, those
of q, of each stochastic layer of q, and of p. Every estimator sees the same noise.

The draws form groups, each with a variance of its own. The standard error is that of the mean of
these; as the groups of all estimators have the same noise, their differences between two
estimators are paired.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rebar import noise
from rebar.analysis import meter
from rebar.analysis.control_fit import fitted
from rebar.analysis.meter import GROUPS, Meter, Target
from rebar.errors import RebarError

LEAST_DRAWS = 4


class Part(NamedTuple):
    """The variance of some components of the gradient.

    Attributes:
      variance: the mean over components of the variance of one estimate, (nats / weight)^2.
      standard_error: of `variance`.
      groups: the variances of the groups of draws, for paired comparisons: two estimators that are
        measured with the same seed have the same noise in each group.
    """

    variance: float
    standard_error: float
    groups: tuple


class Measured(NamedTuple):
    """What was measured of one estimator.

    Attributes:
      parts: "total", "q", "q_0", "q_1", ..., "p" -> `Part`.
      evaluations: evaluations of f of one estimate: full passes of one row, hard or relaxed,
        `estimator.evaluations(n_layer, n_samples)` times images. Derivatives are not counted.
      milliseconds: measured time per estimate, including its noise; see `Meter`.
    """

    parts: dict
    evaluations: float
    milliseconds: float

    def record(self) -> dict:
        """As it is written down: part -> variance, then what qualifies these numbers.

        "times_evaluations" is variance times evaluations of f: the mean of m estimates has the
        variance V / m, so at an equal number of evaluations the smaller product wins.
        """
        variances = {name: part.variance for name, part in self.parts.items()}
        return {
            **variances,
            "standard_error": {name: part.standard_error for name, part in self.parts.items()},
            "times_evaluations": {n: v * self.evaluations for n, v in variances.items()},
            "evaluations": self.evaluations,
            "milliseconds": self.milliseconds,
        }


def estimator_variance(
    model,
    estimator,
    x,
    n_draws=100,
    seed=0,
    *,
    n_samples=1,
    jit=False,
    label=None,
    fit_steps=None,
) -> dict:
    """Measure the variance of an estimator, or of each of a tracking one, at a batch.

    Nothing is changed: neither the model, nor what the estimators have learned.

    Warns (RuntimeWarning) where control variates are untrained and `fit_steps` is not given: a
    random baseline can have 20 times the variance of a trained one.

    Args:
      model: see `rebar.types.Model`.
      estimator: set up for it.
      x: [B, D] in {0, 1}.
      n_draws: N, at least LEAST_DRAWS.
      seed: non-negative integer or several; the noise is a function of it, more draws only append.
      n_samples: S, samples an example.
      jit: compile with XLA: quicker draws after seconds of compiling.
      label: of a single estimator in the result, by default the name of its class.
      fit_steps: steps by which control variates are trained first, at the frozen model and the
        batch, e.g. 200; they are restored afterwards. 0: measure them as they are.

    Returns:
      label -> `Measured`.

    Raises:
      RebarError: no images, or n_draws, n_samples or fit_steps too small.
    """
    meter = VarianceMeter(model, estimator, n_samples, jit, label)
    if fit_steps is None:
        meter.warn_of_untrained()
        fit_steps = 0
    members = list(meter.members.values())
    with fitted(model, members, n_samples, x, fit_steps, seed):
        return meter(x, n_draws, seed)


class VarianceMeter:
    """`estimator_variance`, to be called again and again without being compiled again.

    Arguments are those of `estimator_variance`.
    """

    def __init__(self, model, estimator, n_samples=1, jit=False, label=None):
        labels = list(getattr(estimator, "labels", ()))
        members = estimator.estimators if labels else [estimator]
        labels = labels or [label or type(estimator).__name__]
        self._model = model
        self._samples = n_samples
        self.members = dict(zip(labels, members, strict=True))
        self._sizes = np.array([math.prod(v.shape) for v in model.trainable_variables])
        target = Target(model, list(range(len(self._sizes))))
        self._meters = {
            label: Meter(target, member, n_samples, jit) for label, member in self.members.items()
        }

    def warn_of_untrained(self) -> None:
        """Warn of control variates that no training has updated."""
        untrained = [
            label
            for label, member in self.members.items()
            if member.trainable_variables and not getattr(member, "control_trained", True)
        ]
        if untrained:
            warnings.warn(
                f"the control variates of {', '.join(untrained)} are untrained, so their variance "
                "is not that of the estimator in use; give fit_steps=200 to train them first at "
                "this model, or fit_steps=0 to measure them as they are",
                RuntimeWarning,
                stacklevel=3,
            )

    def __call__(self, x, n_draws: int = 100, seed=0, position=(), groups: int = GROUPS) -> dict:
        """Measure at a batch.

        Args:
          x: [B, D] in {0, 1}.
          n_draws: N.
          seed: non-negative integer or several.
          position: non-negative integers, such as a step: a measurement elsewhere in the run has
            other noise.
          groups: into how many the draws are cut, from 2 on; fewer where not all had two draws.

        Returns:
          label -> `Measured`.

        Raises:
          RebarError: no images, or n_draws below LEAST_DRAWS.
        """
        if n_draws < LEAST_DRAWS:
            raise RebarError(
                f"n_draws={n_draws} draws have no standard error; give {LEAST_DRAWS} or more"
            )
        x = tf.cast(x, self._model.compute_dtype)
        groups = max(2, min(groups, n_draws // 2))
        result, parts = {}, None
        for label, member in self.members.items():
            sums, milliseconds = self._meters[label](
                x, n_draws, seed, ("variance", *position), groups
            )
            parts = parts or variables_by_part(self._model, x)
            measured = {name: self._part(sums, indices) for name, indices in parts.items()}
            evaluations = member.evaluations(len(self._model.n_units), self._samples) * len(x)
            result[label] = Measured(measured, evaluations, milliseconds)
        return result

    def _part(self, sums, indices) -> Part:
        """`Part` of the variables at some positions."""
        size = sum(self._sizes[indices])
        with np.errstate(invalid="ignore"):  # nan where an estimate is not finite
            each = [float(np.sum(group.variances[indices]) / size) for group in sums]
            variance = float(np.sum(meter.total(sums).variances[indices]) / size)
        error = float(np.std(each, ddof=1)) / math.sqrt(len(each))
        return Part(variance, error, tuple(each))


def variables_by_part(model, x) -> dict:
    """Name of a part -> positions in model.trainable_variables.

    A variable belongs to the layer of q whose logits depend on it when all samples are given; one
    that several layers share is counted in q only.

    Args:
      model: see `rebar.types.Model`.
      x: [B, D], B >= 1.
    """
    samples = tuple(tf.zeros([1, width], x.dtype) for width in model.n_units)
    with tf.GradientTape(persistent=True) as tape:
        logits = model.posterior_logits(x[:1], samples)
    owners: dict = {id(v): [] for v in model.inference_variables}
    for layer, a in enumerate(logits):
        found = tape.gradient(a, model.inference_variables)
        for v, gradient in zip(model.inference_variables, found, strict=True):
            if gradient is not None:
                owners[id(v)].append(layer)
    ids = [id(v) for v in model.trainable_variables]
    parts = {
        "total": list(range(len(ids))),
        "q": [i for i, key in enumerate(ids) if key in owners],
        **{
            f"q_{layer}": [i for i, key in enumerate(ids) if owners.get(key) == [layer]]
            for layer in range(len(logits))
        },
        "p": [i for i, key in enumerate(ids) if key not in owners],
    }
    return {name: indices for name, indices in parts.items() if indices}


def fixed_batch(train, batch_size: int, dynamic: bool = False) -> np.ndarray:
    """The images at which a run measures: of its training set, since their gradients train.

    They come first in an order that depends on the size of the set alone (sets are sorted), so all
    runs on a data set with one batch_size measure at the same images.

    Args:
      train: [n, D] uint8 in {0, 1}, or float32 in [0, 1].
      batch_size: B; all images if there are fewer.
      dynamic: binarize them, once; else grey ones stay as they are.
    """
    images = train[noise.permutation(0, 0, len(train))[:batch_size]]
    if not dynamic:
        return images
    return (noise.uniforms(noise.key(0, "variance", 0), images.shape).numpy() < images).astype(
        np.uint8
    )
