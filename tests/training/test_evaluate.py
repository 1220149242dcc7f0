"""The multi-sample bound: against NumPy on the same noise, in chunks, in bounded memory."""

import math

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise
from rebar.core import samplers
from rebar.errors import RebarError
from rebar.noise import Noise
from rebar.training import evaluate
from rebar.training.blocks import Blocks
from rebar.training.evaluate import Evaluator

from . import tiny


@pytest.fixture
def small_passes(monkeypatch):
    """At most 4 samples and 12 rows a pass: 3 images with 4 samples."""
    monkeypatch.setattr(evaluate, "CHUNK", 4)
    monkeypatch.setattr(evaluate, "ROWS", 12)


@pytest.fixture
def counted(monkeypatch):
    """Passes run eagerly, so that calls can be counted: rows of a pass, images encoded."""
    tf.config.run_functions_eagerly(True)
    yield {"rows": [], "encoded": []}
    tf.config.run_functions_eagerly(False)


def count_calls(model, counted, monkeypatch):
    encode, rollout = model.encode, model.rollout

    def counting_encode(x):
        counted["encoded"].append(np.array(x))
        return encode(x)

    def counting_rollout(x, sampler, n_samples=1, encoded=None):
        assert encoded is not None
        counted["rows"].append(len(x) * n_samples)
        return rollout(x, sampler, n_samples, encoded)

    monkeypatch.setattr(model, "encode", counting_encode)
    monkeypatch.setattr(model, "rollout", counting_rollout)


def objective(model, x, n_samples, chunk, batch, seed, stream):
    """f [S, B] in float64, image by image, with the evaluator's noise."""
    f = np.zeros([n_samples, len(x)])
    for start in range(0, len(x), batch):
        part = tf.constant(x[start : start + batch], tf.float32)
        for done in range(0, n_samples, chunk):
            size = min(chunk, n_samples - done)
            uniforms = tuple(
                noise.uniforms(
                    noise.key(seed, "evaluate", stream, start, done, layer),
                    [size * len(part), width],
                )
                for layer, width in enumerate(model.n_units)
            )
            latents = Noise(uniforms, size)
            rollout = model.rollout(part, samplers.hard(latents), size)
            rows = np.asarray(rollout.objective, np.float64).reshape(size, len(part))
            f[done : done + size, start : start + batch] = rows
    return f


def log_mean_exp(f):
    top = f.max(axis=0)
    return np.log(np.mean(np.exp(f - top), axis=0)) + top


@pytest.mark.parametrize("n_layer", [1, 2])
@pytest.mark.parametrize("n_samples", [1, 4, 10])
def test_bound_and_elbo_equal_numpy_on_the_same_noise(small_passes, n_layer, n_samples):
    """5 images in batches of 3 and 2 (12 for one sample), samples in chunks of 4, 4 and 2."""
    model = tiny.learner(f"n_layer={n_layer}").model
    x = tiny.images(5)
    values = Evaluator(model, seed=(3, 1))(x, n_samples, stream=1)
    chunk = min(n_samples, 4)
    f = objective(model, x, n_samples, chunk, 12 // chunk, (3, 1), 1)
    assert list(values) == ["bound", "elbo"]
    np.testing.assert_allclose(values["bound"], log_mean_exp(f).mean(), rtol=1e-6)
    np.testing.assert_allclose(values["elbo"], f.mean(), rtol=1e-6)


def test_many_samples_in_chunks_equal_one_pass_of_the_same_noise():
    model = tiny.learner().model
    x = tiny.images(3)
    values = Evaluator(model)(x, 250)
    f = objective(model, x, 250, evaluate.CHUNK, 40, 0, 0)
    np.testing.assert_allclose(values["bound"], log_mean_exp(f).mean(), rtol=1e-6)
    np.testing.assert_allclose(values["elbo"], f.mean(), rtol=1e-6)
    assert values["elbo"] + 0.1 < values["bound"] < 0


def test_many_samples_approach_the_log_likelihood():
    """log p(x) by summing over all states of three units."""
    model = tiny.learner().model
    x = tiny.images(2)
    states = (np.arange(8)[:, np.newaxis] >> np.arange(3) & 1).astype(np.float32)
    exact = [
        np.logaddexp.reduce(
            np.asarray(model.log_joint(tf.constant(np.tile(image, [8, 1]), tf.float32), (states,)))
        )
        for image in x
    ]
    values = Evaluator(model)(x, 4000)
    np.testing.assert_allclose(values["bound"], np.mean(exact), atol=0.03)
    assert values["elbo"] + 0.1 < values["bound"]


def test_memory_is_bounded_and_images_are_encoded_once(counted, monkeypatch):
    model = tiny.learner().model
    count_calls(model, counted, monkeypatch)
    x = tiny.images(45)
    Evaluator(model)(x, 250)
    assert counted["rows"] == [4000, 4000, 2000, 500, 500, 250]
    assert [len(images) for images in counted["encoded"]] == [40, 5]
    np.testing.assert_array_equal(np.concatenate(counted["encoded"]), x)


@pytest.mark.parametrize("n_samples", [1, 3, 99, 101, 5000])
def test_rows_of_a_pass_never_exceed_the_limit(counted, monkeypatch, n_samples):
    """However many samples, and where the limit does not divide by them."""
    monkeypatch.setattr(evaluate, "ROWS", 200)
    model = tiny.learner().model
    count_calls(model, counted, monkeypatch)
    Evaluator(model)(tiny.images(7), n_samples)
    assert max(counted["rows"]) <= 200
    assert sum(counted["rows"]) == 7 * n_samples


def test_metrics_are_the_estimators_means_over_images(small_passes):
    """Weighted by the images of a batch: 3 and 2 here."""
    learner = tiny.learner("model=SBNGumbel")
    x = tiny.images(5)
    values = Evaluator(learner.model, learner.estimator)(x, 4)
    assert list(values) == ["bound", "elbo", "relaxed_elbo"]
    total = 0.0
    for start, part in ((0, x[:3]), (3, x[3:])):
        key = noise.key(0, "evaluate", 0, start, 0, 0)
        latents = Noise((noise.uniforms(key, [4 * len(part), 3]),), 4)
        rows = tf.constant(part, tf.float32)
        metrics = learner.estimator.metrics_at(learner.model, rows, latents, None)
        total += float(metrics["relaxed_elbo"]) * len(part) / 5
    np.testing.assert_allclose(values["relaxed_elbo"], total, rtol=1e-6)


def test_noise_is_that_of_the_seed_and_the_image_set():
    model = tiny.learner().model
    x = tiny.images(4)
    first = Evaluator(model, seed=1)
    assert first(x, 3) == first(x, 3) == Evaluator(model, seed=1)(x, 3)
    others = [first(x, 3, stream=1), Evaluator(model, seed=2)(x, 3)]
    assert len({v["bound"] for v in (first(x, 3), *others)}) == 3


def test_no_noise_is_that_of_training():
    """Among these numbers of 23 bits some pair is equal by chance with probability 0.01."""
    learner, x = tiny.learner(), tiny.images(16)
    numbers = {"evaluation": [], "training": []}
    evaluator, runner = Evaluator(learner.model, seed=3), Blocks(learner, x, 4, seed=3)

    def recorded(draw, kept):
        def call(*arguments):
            drawn = draw(*arguments)
            kept.extend(np.ravel(u) for u in tf.nest.flatten(drawn))
            return drawn

        return call

    evaluator._draw = recorded(evaluator._draw, numbers["evaluation"])
    runner._draw = recorded(runner._draw, numbers["training"])
    for stream in (0, 1):
        evaluator(x, 3, stream=stream)
    runner.take(0, 1)
    evaluated, trained = (np.concatenate(kept) for kept in numbers.values())
    assert len(evaluated) == len(np.unique(evaluated)) == 2 * 3 * 16 * 3
    assert not np.intersect1d(evaluated, trained[: len(evaluated)]).size


@pytest.mark.parametrize(("n_images", "n_samples"), [(0, 5), (3, 0)])
def test_nothing_to_evaluate(n_images, n_samples):
    with pytest.raises(RebarError, match=f"{n_images} images, n_samples={n_samples}"):
        Evaluator(tiny.learner().model)(tiny.images(n_images), n_samples)


def test_likelihoods_far_apart_do_not_overflow():
    """Objectives of thousands of nats, as untrained wide models have."""
    model = tiny.learner().model
    for variable in model.trainable_variables:
        variable.assign(variable * 1e4)
    values = Evaluator(model)(tiny.images(4), 150)
    assert values["elbo"] < -1000
    assert math.isfinite(values["bound"])
    assert values["elbo"] <= values["bound"]


def test_large_sets_are_compiled_and_give_the_same_numbers(small_passes, monkeypatch):
    learner = tiny.learner("model=SBNGumbel")
    x = tiny.images(7)
    expected = Evaluator(learner.model, learner.estimator)(x, 4)
    for least, traces in ((3, 0), (2, 1)):  # Two full passes, of three images each.
        monkeypatch.setattr(evaluate, "COMPILED_PASSES", least)
        compiled = Evaluator(learner.model, learner.estimator, jit=True)
        values = compiled(x, 4)
        assert compiled._compiled_pass.experimental_get_tracing_count() == traces
        np.testing.assert_allclose(list(values.values()), list(expected.values()), rtol=1e-5)
