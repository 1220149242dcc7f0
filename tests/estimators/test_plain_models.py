"""Every estimator with a model of plain tf.Variables and image-shaped x, and what it costs.

The model is no Keras object: it has what the protocol `Model` asks for and nothing else.
"""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise, registry
from rebar.analysis.variance import estimator_variance
from rebar.core import bernoulli, categorical, families
from rebar.estimators.base import checked_estimate
from rebar.hparams import HParams
from rebar.training.evaluate import Evaluator
from rebar.training.learner import Learner
from rebar.types import Rollout

BATCH, SIDE = 4, 3
IMAGES = np.random.default_rng(0).integers(0, 2, [BATCH, SIDE, SIDE, 1]).astype(np.float32)


class PlainSBN:
    """A sigmoid belief network of plain variables over images [B, 3, 3, 1]."""

    compute_dtype = "float32"
    input_mean = tf.fill([SIDE, SIDE, 1], 0.4)

    def __init__(self, n_layer=2, rename=True):
        random = np.random.default_rng(1)
        self.n_units = (2,) * n_layer
        widths = [SIDE * SIDE, *self.n_units]

        def weights(shape, name):
            value = random.normal(size=shape).astype(np.float32)
            return tf.Variable(value, name=name) if rename else tf.Variable(value)

        pairs = list(itertools.pairwise(widths))
        self.q = [weights(pair, f"q_{i}") for i, pair in enumerate(pairs)]
        self.p = [weights(pair[::-1], f"p_{i}") for i, pair in enumerate(pairs)]
        self.prior = weights([2], "prior")
        self.inference_variables = self.q
        self.trainable_variables = [*self.q, *self.p, self.prior]

    def _flat(self, x):
        return tf.reshape(x, [tf.shape(x)[0], -1])

    def encode(self, x):
        return None

    def posterior_logits(self, x, samples, n_samples=1):
        inputs = [tf.tile(self._flat(x - self.input_mean), [n_samples, 1]), *samples[:-1]]
        return tuple(tf.matmul(i, w) for i, w in zip(inputs, self.q, strict=True))

    def rollout(self, x, sampler, n_samples=1, encoded=None):
        below = tf.tile(self._flat(x - self.input_mean), [n_samples, 1])
        logits, samples = [], []
        for layer, w in enumerate(self.q):
            logits.append(tf.matmul(below, w))
            samples.append(sampler(layer, logits[-1]))
            below = samples[-1]
        prior = tf.convert_to_tensor(self.prior)[tf.newaxis]
        log_joint = bernoulli.log_prob(samples[-1], prior)
        values = [tf.tile(self._flat(x), [n_samples, 1]), *samples[:-1]]
        for value, sample, w in zip(values, samples, self.p, strict=True):
            log_joint += bernoulli.log_prob(value, tf.matmul(sample, w))
        log_q = tuple(map(bernoulli.log_prob, samples, logits))
        objective = log_joint - tf.add_n(log_q)
        return Rollout(objective, log_joint, log_q, tuple(logits), tuple(samples))


class PlainCategorical:
    """A VAE with two categorical variables, of plain variables, over images [B, 3, 3, 1]."""

    compute_dtype = "float32"
    input_mean = PlainSBN.input_mean
    latent_shapes, n_units = ((2, 3),), (6,)

    def __init__(self):
        random = np.random.default_rng(1)
        self.q = tf.Variable(random.normal(size=[9, 6]), dtype=tf.float32)
        self.p = tf.Variable(random.normal(size=[6, 9]), dtype=tf.float32)
        self.inference_variables, self.trainable_variables = [self.q], [self.q, self.p]

    def encode(self, x):
        return None

    def posterior_logits(self, x, samples, n_samples=1):
        flat = tf.tile(tf.reshape(x - self.input_mean, [-1, 9]), [n_samples, 1])
        return (tf.reshape(tf.matmul(flat, self.q), [-1, 2, 3]),)

    def rollout(self, x, sampler, n_samples=1, encoded=None):
        (logits,) = self.posterior_logits(x, (), n_samples)
        z = sampler(0, logits)
        log_q = tf.reduce_sum(categorical.log_prob(z, logits), axis=-1)
        pixels = tf.tile(tf.reshape(x, [-1, 9]), [n_samples, 1])
        decoded = tf.matmul(tf.reshape(z, [-1, 6]), self.p)
        log_joint = bernoulli.log_prob(pixels, decoded) - 2 * math.log(3.0)
        kl = tf.reduce_sum(categorical.kl_to(logits, tf.zeros_like(logits)), axis=-1)
        objective = bernoulli.log_prob(pixels, decoded) - kl
        return Rollout(objective, log_joint, (log_q,), (logits,), (z,), log_joint - log_q)


def plain(name, n_layer=2, n_samples=1, **changes):
    """Model, estimator and a number of samples that suits it."""
    entry = registry.entry(name)
    n_samples = entry.n_samples(n_samples)
    if entry.tracks:
        labels = [v for v in registry.labels(entry.latents) if v != "Exact"]
        entries = [registry.entry(registry.labels(entry.latents)[v]) for v in labels]
        n_samples = next(n for n in range(2, 99) if all(e.n_samples(n) == n for e in entries))
        changes = {"track": tuple(labels), "follow": labels[0], **changes}
    if entry.latents == "categorical":
        model = PlainCategorical()
        changes |= {"n_latents": 2, "n_categories": 3, "mc_samples": 2}
    else:
        model = PlainSBN(n_layer, rename=n_layer > 1)
        changes |= {"n_layer": n_layer, "n_hidden": 2}
    hparams = HParams(model=name, n_samples=n_samples, **changes)
    estimator = registry.make_estimator(name, hparams)
    estimator.setup(model)
    return model, estimator, n_samples


def draw(model, estimator, n_samples):
    latents = noise.latents(noise.key(0, "latents"), n_samples, BATCH, model.n_units)
    if estimator.branches:
        return noise.with_branches(latents, noise.key(0, "branches"))
    return latents


@pytest.mark.parametrize("name", registry.names())
def test_plain_variables_and_image_shaped_x(name):
    model, estimator, n_samples = plain(name)
    learner = Learner(model, estimator, 0.01)
    before = [v.numpy() for v in model.trainable_variables]
    _, _, wrong = learner.step(tf.constant(IMAGES), draw(model, estimator, n_samples))
    assert wrong == -1
    assert len(learner.named_variables()) > len(before)
    for v, value in zip(model.trainable_variables, before, strict=True):
        assert np.any(v.numpy() != value), v.name
    values = Evaluator(model, estimator)(IMAGES, n_samples)
    assert np.isfinite(values["bound"])


@pytest.mark.parametrize(
    ("name", "n_layer"),
    [
        *(("SBNTrackGradVariances", n_layer) for n_layer in (1, 2, 3)),
        ("CatTrackGradVariances", 1),
    ],
)
def test_evaluations_are_those_of_real_rollouts(name, n_layer):
    """All estimators in one tracker; each alone is a check of `rebar.testing`."""
    model, estimator, n_samples = plain(name, n_layer)
    rows, rollout = [], model.rollout

    def counted(*arguments, **keywords):
        result = rollout(*arguments, **keywords)
        rows.append(int(result.objective.shape[0]))
        return result

    model.rollout = counted
    checked_estimate(estimator, model, tf.constant(IMAGES), draw(model, estimator, n_samples))
    assert sum(rows) / BATCH == estimator.evaluations(families.shapes(model), n_samples)


def test_cost_follows_the_samples_of_the_measurement():
    model, estimator, _ = plain("SBNVIMCO", n_samples=2)
    costs = {
        k: estimator_variance(model, estimator, IMAGES, 4, n_samples=k)["VIMCO"].evaluations
        for k in (2, 3)
    }
    assert costs == {2: 2 * BATCH, 3: 3 * BATCH}
