"""Conditional variance of an estimator: fixed parameters, a fixed batch, many noise draws.

    V = mean over components of Var[g],    g one estimate of the gradient of -mean f at the batch

The running variance of `moments` also has the noise of the minibatches and follows parameters that
move. V is measured for all components, those of q, of each stochastic layer of q, and of p. Every
estimator sees the same noise, so differences between two estimators are paired by group of draws;
the standard error is that of the mean of the groups' variances.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rebar import noise
from rebar.analysis.meter import GROUPS, Meter, estimation, noise_keys, train_controls
from rebar.core import families
from rebar.data.images import check_binary, check_range
from rebar.errors import RebarError
from rebar.types import capability


class Measured(NamedTuple):
    """The measured variance and cost of one estimator.

    Parts of the gradient are "total", "q", "q_0", "q_1", ..., "p".

    Attributes:
      variance: part -> mean over its components of the variance of one estimate, (nats / weight)^2.
      standard_error: part -> standard error of `variance`.
      evaluations: evaluations of f per estimate, of one row each; derivatives are not counted.
      milliseconds: measured time per estimate, including its noise.
    """

    variance: dict
    standard_error: dict
    evaluations: float
    milliseconds: float

    def record(self) -> dict:
        """Part -> variance, followed by standard errors and cost, as in metrics.jsonl.

        "times_evaluations" is variance times evaluations of f, the variance at equal cost.
        """
        return {
            **self.variance,
            "standard_error": self.standard_error,
            "times_evaluations": {n: v * self.evaluations for n, v in self.variance.items()},
            "evaluations": self.evaluations,
            "milliseconds": self.milliseconds,
        }


def estimator_variance(
    model, estimator, x, n_draws=100, seed=0, *, n_samples=1, jit=False, label=None, fit_steps=None
) -> dict:
    """Measure the conditional variance of an estimator, or of each that it tracks, at a batch.

    Neither the model nor the estimators are changed. Warns (RuntimeWarning) where control variates
    are untrained and `fit_steps` is not given: a random baseline can have 20 times the variance of
    a trained one.

    Args:
      model: see `rebar.types.Model`.
      estimator: set up for the model.
      x: [B, D] in {0, 1}.
      n_draws: number of estimates, at least 4.
      seed: non-negative integer or several; more draws only append.
      n_samples: samples per example.
      jit: compile with XLA: takes seconds, then draws faster.
      label: name of a single estimator in the result, by default that of its class.
      fit_steps: first train control variates for so many steps at the frozen model and the batch,
        e.g. 200, and restore them afterwards. 0: measure them as they are.

    Returns:
      label -> `Measured`.

    Raises:
      RebarError: no images, pixels out of range or grayscale for a binary model, or n_draws,
        n_samples or fit_steps too small.
    """
    check_range(np.asarray(x), "x")
    if not capability(model, "grayscale"):
        check_binary(np.asarray(x), "x", type(model).__name__)
    if not len(x):
        raise RebarError("no images: expected a batch; give x [B, D] with B >= 1")
    if n_samples < 1:
        raise RebarError(f"n_samples={n_samples}: must be at least 1")
    if fit_steps is not None and fit_steps < 0:
        raise RebarError(f"fit_steps={fit_steps}: must be at least 0; give e.g. fit_steps=200")
    meter = VarianceMeter(model, estimator, n_samples, jit, label)
    learned = {name: e for name, e in meter.members.items() if e.trainable_variables}
    untrained = [name for name, member in learned.items() if not member.control_trained]
    if fit_steps is None and untrained:
        warnings.warn(
            f"the control variates of {', '.join(untrained)} are untrained, so their variance is "
            "not that of the estimator in use; give fit_steps=200 to train them first at this "
            "model, or fit_steps=0 to measure them as they are",
            RuntimeWarning,
            stacklevel=2,
        )
    saved = {name: member.get_weights() for name, member in learned.items()}
    try:
        for member in learned.values():
            fit_controls(model, member, x, n_samples, fit_steps or 0, seed)
        return meter(x, n_draws, seed)
    finally:
        for name, member in learned.items():
            member.set_weights(saved[name])


def fit_controls(model, estimator, x, n_samples, steps, seed):
    """Train the control variates of an estimator at the frozen model and a batch."""
    x = tf.cast(x, model.compute_dtype)
    estimate = estimation(model, estimator, n_samples)
    train_controls(
        lambda keys: estimate(x, keys).control_gradients,
        estimator.trainable_variables,
        [noise_keys(seed, "variance", i, 0, 0, 0) for i in range(steps)],
    )


class VarianceMeter:
    """`estimator_variance` for many calls: estimators are compiled once.

    Arguments are those of `estimator_variance`.
    """

    def __init__(self, model, estimator, n_samples=1, jit=False, label=None):
        self._model = model
        self.members = estimator.members(label or type(estimator).__name__)
        self._meters = {
            label: Meter(model, member, n_samples, jit) for label, member in self.members.items()
        }

    def __call__(self, x, n_draws: int = 100, seed=0, position=(), groups: int = GROUPS) -> dict:
        """Measure at a batch.

        Args:
          x, n_draws, seed: see `estimator_variance`.
          position: non-negative integers, such as a step, on which the noise depends, too.
          groups: number of groups of draws, at least 2; fewer where not all had two draws.
        """
        x = tf.cast(x, self._model.compute_dtype)
        groups = max(2, min(groups, n_draws // 2))
        sizes = [math.prod(v.shape) for v in self._model.trainable_variables]
        owners = np.repeat(np.arange(len(sizes)), sizes)
        masks = {n: np.isin(owners, part) for n, part in variables_by_part(self._model, x).items()}
        result = {}
        for label, meter in self._meters.items():
            draws = meter(x, n_draws, seed, ("variance", *position), groups)
            _, _, variances = draws.moments()
            by_group = np.stack([draws.moments([i])[2] for i in range(groups)])
            each = {name: np.mean(by_group[:, mask], axis=1) for name, mask in masks.items()}
            variance = {name: float(np.mean(variances[mask])) for name, mask in masks.items()}
            error = {n: float(np.std(v, ddof=1)) / math.sqrt(groups) for n, v in each.items()}
            result[label] = Measured(variance, error, draws.evaluations, draws.milliseconds)
        return result


def variables_by_part(model, x) -> dict:
    """Name of a part -> positions in model.trainable_variables.

    A variable belongs to the layer of q whose logits depend on it at given samples; one that
    several layers share counts in q only. x: [B, D], B >= 1.
    """
    samples = tuple(tf.zeros([1, *shape], x.dtype) for shape in families.shapes(model))
    with tf.GradientTape(persistent=True) as tape:
        logits = model.posterior_logits(x[:1], samples)
    each = [tape.gradient(a, model.trainable_variables) for a in logits]
    layers = [[n for n, g in enumerate(of) if g is not None] for of in zip(*each, strict=True)]
    inference = {id(v) for v in model.inference_variables}
    of_q = [id(v) in inference for v in model.trainable_variables]
    places = range(len(of_q))
    parts = {
        "total": list(places),
        "q": [i for i in places if of_q[i]],
        **{
            f"q_{n}": [i for i in places if of_q[i] and layers[i] == [n]]
            for n in range(len(logits))
        },
        "p": [i for i in places if not of_q[i]],
    }
    return {name: indices for name, indices in parts.items() if indices}


def fixed_batch(train, batch_size: int, dynamic: bool = False) -> np.ndarray:
    """The training images at which every run on a data set with one batch_size measures.

    Args:
      train: [n, D] uint8 in {0, 1}, or float32 in [0, 1].
      batch_size: B; all images if there are fewer.
      dynamic: binarize them, once; else grayscale images stay as they are.
    """
    images = train[noise.permutation(0, 0, len(train))[:batch_size]]
    if not dynamic:
        return images
    uniforms = noise.uniforms(noise.key(0, "variance", 0), images.shape).numpy()
    return (uniforms < images).astype(np.uint8)
