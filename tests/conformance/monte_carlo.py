"""Is an estimator unbiased? Its mean over many draws against the sum over all latent states.

An estimate is the mean over the rows of a batch, so with every image tiled a batch is a Monte
Carlo sample. BATCHES such estimates give the mean and its standard error for each component of
the gradient, and Student's t the largest deviation to expect.

    seed              SEED, streams "analysis" and "branches", position: the number of the batch
    draws             BATCHES * ROWS = 720,000 rows an estimator
    false-fail rate   1e-6 for all checks together: 1e-6 / CHECKS for each, shared by Bonferroni
                      over its components
    detectable bias   (critical value + 3) standard errors in one component is missed with
                      probability about .001; the tests assert how small that is beside the norm
                      of the gradient with respect to the weight tensor
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import stats

from rebar.core import enumeration
from tests.conformance.cases import draw, flat, images, noise_keys, tensor

SEED = 20170321
BATCHES = 200
IMAGES, TILES, SAMPLES = 3, 600, 2
ROWS = IMAGES * TILES * SAMPLES
CHECKS = 250
FALSE_FAIL_RATE = 1e-6
LARGEST_UNSEEN_BIAS = 0.25
"""Of the norm of the gradient with respect to a weight tensor. The errors that these tests are
for, such as the coupling of 2017, are of 0.5 and more."""


class Check(NamedTuple):
    """What came out.

    Attributes:
      z: largest deviation from the exact gradient, in standard errors.
      critical: above this value of z the estimator is biased.
      detectable: weight tensor -> smallest detectable bias of a component, as a fraction of the
        norm of the exact gradient of that tensor.
      worst: weight tensor where z is largest.
    """

    z: float
    critical: float
    detectable: dict
    worst: str

    @property
    def biased(self) -> bool:
        return bool(self.z > self.critical)


def check(estimator, model, n_samples: int = SAMPLES, batches: int = BATCHES) -> Check:
    """Compare the mean of many estimates (float64) with the exact gradient."""
    gradients = truth_of(estimator, model, images(IMAGES), n_samples)
    truth = flat(gradients)
    values = estimates(estimator, model, n_samples, batches)
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(batches)
    # Rounding, where a component has no variance.
    error = np.maximum(error, 1e-12 * np.linalg.norm(truth))
    rate = FALSE_FAIL_RATE / CHECKS / len(truth)
    critical = stats.t.isf(rate / 2, batches - 1)
    z = np.abs(mean - truth) / error
    assert np.all(np.isfinite(z))

    paths = [v.path for v in model.trainable_variables]
    owner = np.repeat(np.arange(len(paths)), [np.size(g) for g in gradients])
    detectable = {
        path: (critical + 3) * np.max(error[owner == i]) / np.linalg.norm(truth[owner == i])
        for i, path in enumerate(paths)
    }
    return Check(np.max(z), critical, detectable, paths[owner[np.argmax(z)]])


def truth_of(estimator, model, x, n_samples: int) -> list:
    """The exact gradient of what the estimator follows with n_samples of noise."""
    if estimator.objective == "bound":
        chains = n_samples // estimator.samples_per_chain
        return enumeration.bound_and_gradient(model, x, chains).gradients
    assert estimator.objective == "elbo"
    return enumeration.elbo_and_gradient(model, x).gradients


def estimates(estimator, model, n_samples: int = SAMPLES, batches: int = BATCHES) -> np.ndarray:
    """The estimates of all batches, [batches, P], of ROWS rows each."""
    x = tensor(np.tile(images(IMAGES), [ROWS // n_samples // IMAGES, 1]))
    keys = tf.constant(np.stack([noise_keys(SEED, i) for i in range(batches)]))

    def one(keys):
        draws = draw(estimator, model, keys, n_samples, x.shape[0], tf.float64)
        estimate = estimator.estimate(model, x, draws)
        return tf.concat([tf.reshape(g, [-1]) for g in estimate.gradients], axis=0)

    @tf.function(autograph=False)
    def all_batches():
        return tf.map_fn(one, keys, fn_output_signature=tf.float64, parallel_iterations=1)

    return all_batches().numpy()


def assert_unbiased(estimator, model, n_samples: int = SAMPLES):
    """And that a bias would have been seen."""
    result = check(estimator, model, n_samples)
    assert result.z <= result.critical, f"biased at {result.worst}: {result.z:.1f} errors"
    for path, fraction in result.detectable.items():
        assert fraction < LARGEST_UNSEEN_BIAS, f"too few draws to see a bias of {path}"


def assert_biased(estimator, model, where="", n_samples: int = SAMPLES):
    """Most of all in a weight tensor whose path holds `where`."""
    result = check(estimator, model, n_samples)
    assert result.biased
    assert where in result.worst
