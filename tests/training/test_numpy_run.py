"""The first steps of a run of `CatST`, repeated by a program in NumPy.

It has the run's initial weights, order of images and uniforms, and its own networks, derivatives,
estimator and Adam.
"""

import numpy as np
import pytest

from rebar import noise, registry
from rebar.factory import make_learner
from rebar.hparams import HParams
from rebar.training.blocks import Blocks

SEED, STEPS, BATCH, TEMPERATURE, RATE = (3, 1), 40, 50, 1.3, 0.002
LATENTS, CATEGORIES = 4, 8


def softmax(values):
    odds = np.exp(values - values.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def product(p, g):
    """Product of the Jacobian of softmax with g."""
    return p * (g - (p * g).sum(-1, keepdims=True))


def elbo_and_gradient(weights, x, uniforms, temperature):
    """Mean ELBO of a batch, and the estimate for the negative one: kernel, bias, kernel, ..."""
    kernels, biases = weights[::2], weights[1::2]
    inputs, values = [], x
    for i, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        inputs.append(values)
        values = values @ kernel + bias
        if i == 2:
            logits = values.reshape(-1, LATENTS, CATEGORIES)
            q = softmax(logits)
            gumbels = -np.log(-np.log(uniforms.reshape(logits.shape)))
            z = np.eye(CATEGORIES)[(logits + gumbels).argmax(-1)]
            values = z.reshape(values.shape)
        elif i < 5:
            values = np.maximum(values, 0)
    divergence = (q * np.log(CATEGORIES * q)).sum((-1, -2))
    elbo = (x * values - np.logaddexp(0, values)).sum(-1) - divergence
    slope = (1 / (1 + np.exp(-values)) - x) / len(x)
    gradient = []
    for i in reversed(range(6)):
        gradient[:0] = [inputs[i].T @ slope, slope.sum(0)]
        slope = slope @ kernels[i].T
        if i == 3:
            upstream = slope.reshape(logits.shape)
            surrogate = product(softmax(logits / temperature), upstream) / temperature
            slope = (surrogate + product(q, np.log(q)) / len(x)).reshape(slope.shape)
        else:
            slope = slope * (inputs[i] > 0)
    return elbo.mean(), gradient


def numpy_run(weights, images, temperature):
    """ELBO of each step."""
    order = noise.permutation(SEED, 0, len(images))
    key = noise.key(SEED, "latents", 0, 0, 0)
    uniforms = noise.uniforms(key, [STEPS, BATCH, LATENTS * CATEGORIES]).numpy()
    m, v = ([np.zeros_like(w) for w in weights] for _ in range(2))
    elbos = []
    for t in range(1, STEPS + 1):
        x = images[order[(t - 1) * BATCH : t * BATCH]]
        elbo, gradient = elbo_and_gradient(weights, x, uniforms[t - 1], temperature)
        elbos.append(elbo)
        for i, g in enumerate(gradient):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g**2
            step = np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m[i] / (np.sqrt(v[i]) + 1e-8)
            weights[i] = weights[i] - RATE * step
    return elbos


@pytest.fixture(scope="module")
def runs():
    """Initial weights, images, and the ELBO of each step of our run."""
    rng = np.random.default_rng(0)
    kinds = rng.uniform(size=[8, 64]) < 0.3
    images = np.where(kinds[rng.integers(8, size=STEPS * BATCH)], 0.9, 0.1).astype(np.float32)
    hparams = HParams.parse(
        f"model=CatST,task=digits_grey,n_latents={LATENTS},n_categories={CATEGORIES},beta2=0.999,"
        f"batch_size={BATCH},temperature={TEMPERATURE},learning_rate={RATE}"
    )
    estimator = registry.make_estimator(hparams.model, hparams)
    learner = make_learner(hparams, estimator, images.mean(0), conditional=False, seed=SEED)
    layers = [*learner.model.encoder, *learner.model.decoder]
    weights = [w.numpy().astype(float) for layer in layers for w in (layer.kernel, layer.bias)]
    blocks = Blocks(learner, images, BATCH, 1, SEED)
    assert blocks.next_count(0, STEPS) == STEPS
    taken = blocks.take(0, STEPS)
    return weights, images, taken.table[:, taken.metrics.index("elbo")]


def test_a_program_in_numpy_has_the_same_steps(runs):
    weights, images, ours = runs
    theirs = numpy_run(list(weights), images, TEMPERATURE)
    assert theirs[-1] > theirs[0] + 5
    np.testing.assert_allclose(ours, theirs, rtol=5e-6)


def test_another_temperature_is_seen(runs):
    weights, images, ours = runs
    theirs = numpy_run(list(weights), images, 1.05 * TEMPERATURE)
    assert np.max(np.abs(ours / theirs - 1)) > 1e-4
