"""Classes of the 2017 code: a model, its estimator and its training in one object.

    hparams = rebar.HParams.parse("n_layer=2,learning_rate=0.0003")
    sbn = rebar.SBNDynamicRebar(hparams, mean_xs=train.mean(axis=0))
    lhat, grad_variance, step, temperature = sbn.partial_fit(batch)

There are no sessions and no `initialize`. Each step is one call of a compiled graph;
`rebar_train.py` runs many steps per call, which is faster.
"""

import functools

import numpy as np
import tensorflow as tf

from rebar import noise, registry
from rebar.data.images import check_binary, images_of
from rebar.data.sources import task_of
from rebar.errors import RebarError, integer
from rebar.estimators.base import checked_estimate
from rebar.factory import make_learner
from rebar.hparams import HParams
from rebar.training.evaluate import Evaluator
from rebar.training.moments import OF_PART
from rebar.types import capability

BLOCK = 100
"""Steps between rescalings of the moments' vectors."""


class SBN:
    """REINFORCE with leave-one-out centering, and the base class of all other models.

    Args:
      hparams: `HParams`, or an --hparams string, of this model.
      mean_xs: [n_input] mean of the training images.
      eval_mode: train the recognition network and the control variates only.
      seed: non-negative integer.

    Attributes:
      learner: model, estimator and training state.

    Raises:
      RebarError: hparams name another model, or mean_xs has another size.
    """

    model_name = "SBN"

    def __init__(self, hparams: HParams, mean_xs, eval_mode: bool = False, seed: int = 0):
        if not isinstance(hparams, HParams):
            hparams = HParams.parse(hparams)
        name = self.model_name
        is_default = hparams.model == HParams().model and "model" not in hparams.typed
        if hparams.model != name and not is_default:
            raise RebarError(
                f"model={hparams.model}: must be {name} for rebar.{name}; remove it, or use "
                f"rebar.{hparams.model}"
            )
        self.hparams = hparams.replace(model=name)
        mean_xs = np.asarray(mean_xs)
        if mean_xs.ndim == 1:
            images_of(mean_xs[np.newaxis], "mean_xs")
        if hparams.n_input not in (0, mean_xs.size):
            raise RebarError(
                f"n_input={hparams.n_input}: must be {mean_xs.size}, the size of mean_xs; remove it"
            )
        self._seed = (seed, hparams.trial)
        estimator = registry.make_estimator(name, self.hparams)
        conditional = task_of(hparams.task).conditional
        self.learner = make_learner(
            self.hparams, estimator, mean_xs, conditional, self._seed, eval_mode
        )
        self._step = tf.function(self._fit, autograph=False)
        self._gradient = tf.function(self._estimate, autograph=False)
        self._evaluate = Evaluator(self.learner.model, self.learner.estimator, self._seed)
        self._evaluations = 0

    def _noise(self, keys, rows, n_samples):
        model = self.learner.model
        latents = noise.latents(keys[0], n_samples, rows, model.n_units, model.compute_dtype)
        if self.learner.estimator.branches:
            return noise.with_branches(latents, keys[1])
        return latents

    def _fit(self, x, keys, n_samples):
        return self.learner.step(x, self._noise(keys, x.shape[0], n_samples))

    def _estimate(self, x, keys, n_samples):
        latents = self._noise(keys, x.shape[0], n_samples)
        return checked_estimate(self.learner.estimator, self.learner.model, x, latents).gradients

    def _arguments(self, x, n_samples):
        model = self.learner.model
        n_samples = self.hparams.n_samples if n_samples is None else n_samples
        x = images_of(x, "x", len(model.input_mean)).astype(model.compute_dtype)
        if not capability(model, "grayscale"):
            check_binary(x, "x", self.model_name)
        if not len(x):
            raise RebarError(f"x of shape {list(x.shape)}: must be a batch of at least one image")
        n_samples = integer(n_samples, "n_samples")
        streams = ("latents", "branches")
        keys = np.stack([noise.key(self._seed, stream, self.learner.steps) for stream in streams])
        return tf.constant(x), tf.constant(keys), n_samples

    def partial_fit(self, x, n_samples: int | None = None):
        """Run a training step on x [B, n_input] in {0, 1} with n_samples samples per example.

        Returns:
          lhat: list of floats, the ELBO in nats, then the other numbers of the 2017 class.
          grad_variance: float before this step; for SBNTrackGradVariances label -> float.
          step: number of steps, including this one.
          temperature: float, before this step.
        """
        if self.learner.steps % BLOCK == 0:
            self.learner.begin_block()
        metrics, variances, _ = self._step(*self._arguments(x, n_samples))
        values = {name: float(value) for name, value in metrics.items()}
        variances = {
            label: float(value) for label, value in variances.items() if not label.endswith(OF_PART)
        }
        return (
            list(values.values()),
            variances.get("", variances),
            self.learner.steps,
            values.get("temperature", self.hparams.temperature),
        )

    def partial_grad(self, x, n_samples: int | None = None):
        """Return the gradient of `partial_fit` for this batch, without updating the weights.

        Returns:
          gradients: arrays, d -ELBO, aligned with learner.model.trainable_variables.
          step: number of steps.
        """
        gradients = self._gradient(*self._arguments(x, n_samples))
        return [g.numpy() for g in gradients], self.learner.steps

    def partial_eval(self, x, n_samples: int = 5):
        """Return [n_samples-sample bound, ELBO, ...] in nats, means over x [B, n_input]."""
        x, _, n_samples = self._arguments(x, n_samples)
        self._evaluations += 1
        return list(self._evaluate(x.numpy(), n_samples, self._evaluations).values())


@functools.cache
def model_class(name: str) -> type[SBN]:
    """Return the class of a registered model, `SBN` or a subclass; RebarError if unknown."""
    entry = registry.entry(name)
    if name == SBN.model_name:
        return SBN
    doc = f"Model {name} with the methods of `SBN` and the estimator {entry.label}."
    return type(name, (SBN,), {"model_name": name, "__doc__": doc, "__module__": "rebar"})
