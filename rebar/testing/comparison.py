"""Comparison of the mean of many estimates with the exact gradient, a sum over all latent states.

An estimate is the mean over the rows of a batch, so with every image tiled a batch is a Monte
Carlo sample. BATCHES such estimates give the mean and its standard error for each component of the
gradient. The quantile of Student's t distribution is the critical value of the largest deviation.

    draws             BATCHES * ROWS = 360,000 rows; 3,600,000 with thorough=True
    false-fail rate   FALSE_FAIL_RATE per estimator, shared by Bonferroni over its comparisons and
                      their components, so that 100 estimators have 1e-6
    detectable bias   (critical value + 3) standard errors in one component, which are missed with
                      probability .001, as a fraction of the norm of the gradient with respect to
                      the same weight tensor; a comparison that detects only LARGEST_UNSEEN_BIAS or
                      more fails
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rebar.core import enumeration, gradients
from rebar.estimators.base import Estimator, checked_estimate
from rebar.noise import Noise, fold_in
from rebar.testing.problems import draw, flat, images, noise_keys
from rebar.types import Model

BATCHES = 200
IMAGES, ROWS = 3, 1800
FEW_IMAGES, REPETITIONS = 2, 250
FALSE_FAIL_RATE = 1e-8
COMPARISONS = 64
"""Maximum number of comparisons per estimator that share the false-fail rate."""
LARGEST_UNSEEN_BIAS = 0.25
NEGLIGIBLE = 1e-5
"""Least standard error, as a fraction of the norm of the gradient."""


class Comparison(NamedTuple):
    """Deviation of the mean of many estimates from the exact gradient.

    Attributes:
      rows: number of rows (samples of single images).
      z: largest deviation, in standard errors.
      critical: above this value of z the estimator is biased.
      detectable: smallest detectable bias, see the module; the maximum over weight tensors.
      worst: name of the weight tensor where z is largest.
      bias: norm of the deviation over the norm of the exact gradient.
    """

    rows: int
    z: float
    critical: float
    detectable: float
    worst: str
    bias: float

    @property
    def biased(self) -> bool:
        """True if z is above the critical value."""
        return bool(self.z > self.critical)


def compare(
    estimator: Estimator,
    model: Model,
    n_samples: int = 1,
    *,
    few_rows: bool = False,
    times: float = 1,
    seed: int = 0,
) -> Comparison:
    """Compare the mean of estimates with the exact gradient of the objective.

    Args:
      estimator: set up for the model.
      model: in float64, with at most 4096 states.
      n_samples: samples per example of the noise.
      few_rows: batches of FEW_IMAGES images, whose rows the estimator may couple, instead of many
        copies of IMAGES images. A control variate that is fitted to its own batch has a bias of
        order 1 / rows, which a large batch hides.
      times: factor of the number of batches.
      seed: seed of the noise.

    Raises:
      RebarError: an invalid estimate, or too many states.
    """
    return Sampling(estimator, model, n_samples, few_rows).compare(times, seed)


def exact_gradient(estimator: Estimator, model: Model, x: np.ndarray, n_samples: int) -> list:
    """Return the exact gradient of what an estimator follows with n_samples of noise."""
    if estimator.objective == "bound":
        chains = n_samples // estimator.samples_per_chain
        return enumeration.bound_and_gradient(model, x, chains).gradients
    return enumeration.elbo_and_gradient(model, x).gradients


def _tiles(n_samples: int) -> int:
    return ROWS // n_samples // IMAGES


class Sampling:
    """Estimates of one estimator at one model, traced once for all values of its weights.

    Arguments are those of `compare`.
    """

    def __init__(
        self, estimator: Estimator, model: Model, n_samples: int = 1, few_rows: bool = False
    ):
        self.estimator, self.model, self.n_samples = estimator, model, n_samples
        x = images(FEW_IMAGES if few_rows else IMAGES)
        copies = 1 if few_rows else _tiles(n_samples)
        self._inputs = tf.constant(np.tile(x, [copies, 1]), model.compute_dtype)
        self._rows = len(self._inputs) * n_samples * (REPETITIONS if few_rows else 1)
        self.exact = exact_gradient(estimator, model, x, n_samples)
        one = self._mean_of_many if few_rows else self._one
        batch_mean = tf.function(one, autograph=False, jit_compile=few_rows)

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, 2, 2], tf.int32)])
        def batch_means(keys):
            return _map(batch_mean, keys, self._inputs.dtype)

        self._batch_means = batch_means

    def compare(self, times: float = 1, seed: int = 0) -> Comparison:
        """Compare the mean of estimates with the exact gradient; see `compare`."""
        batches = max(2, round(times * BATCHES))
        values = self.estimates(batches, seed)
        names = gradients.variable_names(self.model.trainable_variables)
        return summarize(values, self.exact, names, batches * self._rows)

    def estimates(self, batches: int, seed: int = 0) -> np.ndarray:
        """Return the means [batches, P] of estimates."""
        keys = np.stack([noise_keys(seed, i) for i in range(batches)])
        return self._batch_means(tf.constant(keys)).numpy().astype(np.float64)

    def _estimate(self, noise):
        estimate = checked_estimate(self.estimator, self.model, self._inputs, noise)
        return tf.concat([tf.reshape(g, [-1]) for g in estimate.gradients], axis=0)

    def _draw(self, keys, batch):
        dtype = self._inputs.dtype
        return draw(self.estimator, self.model, keys, self.n_samples, batch, dtype)

    def _one(self, keys):
        return self._estimate(self._draw(keys, len(self._inputs)))

    def _mean_of_many(self, keys):
        """The mean of REPETITIONS estimates at a few rows each."""
        noise = self._draw(keys, REPETITIONS * len(self._inputs))
        parts = tf.nest.map_structure(
            lambda u: _by_repetition(u, self.n_samples), (noise.uniforms, noise.branches)
        )

        def repetition(i):
            uniforms, branches = tf.nest.map_structure(lambda u: u[i], parts)
            key = fold_in(noise.key, i)
            return self._estimate(Noise(uniforms, self.n_samples, branches, key))

        values = _map(repetition, tf.range(REPETITIONS), self._inputs.dtype)
        return tf.reduce_mean(values, axis=0)


def _map(function: Callable, elements: tf.Tensor, dtype: Any) -> tf.Tensor:
    """Stack function(element), one after the other.

    An exception within tf.map_fn leaves a caching device set, which TFP then refuses to work with.
    """
    n = elements.shape[0] or tf.shape(elements)[0]
    _, values = tf.while_loop(
        lambda i, _: i < n,
        lambda i, values: (i + 1, values.write(i, function(elements[i]))),
        (0, tf.TensorArray(dtype, n)),
        parallel_iterations=1,
    )
    return values.stack()


def _by_repetition(u: tf.Tensor, n_samples: int) -> tf.Tensor:
    """[S * R * B, H] -> [R, S * B, H]."""
    width = u.shape[1]
    parts = tf.reshape(u, [n_samples, REPETITIONS, -1, width])
    return tf.reshape(tf.transpose(parts, [1, 0, 2, 3]), [REPETITIONS, -1, width])


def summarize(values: np.ndarray, exact: list, names: list[str], rows: int) -> Comparison:
    """Return the comparison of estimates [batches, P] with exact gradients by tensor."""
    from scipy import stats

    batches, truth = len(values), flat(exact)
    finite = np.all(np.isfinite(values), axis=0)
    values = np.where(finite, values, 0)
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(batches)
    # Rare samples that were not drawn change a mean, but not its standard error.
    error = np.maximum(error, NEGLIGIBLE * np.linalg.norm(truth))
    rate = FALSE_FAIL_RATE / COMPARISONS / len(truth)
    critical = stats.t.isf(rate / 2, batches - 1)
    deviation = np.abs(mean - truth)
    z = np.where(finite, deviation / error, np.inf)
    owner = np.repeat(np.arange(len(names)), [np.size(g) for g in exact])
    detectable = [
        (critical + 3) * np.max(error[owner == i]) / np.linalg.norm(truth[owner == i])
        for i in range(len(names))
    ]
    return Comparison(
        rows,
        float(np.max(z)),
        float(critical),
        float(np.max(detectable)),
        names[owner[np.argmax(z)]],
        float(np.linalg.norm(deviation) / np.linalg.norm(truth)),
    )
