"""Numbers of an analysis, recomputed from the noise of its draws; that of its reference differs."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from rebar import registry
from rebar.analysis import analyzer
from rebar.analysis.at_logits import AtLogits
from rebar.factory import make_model
from rebar.noise import Noise
from rebar.testing.problems import dtype_policy, randomize
from tests.conformance import literal, recorded_run
from tests.conformance.literal import models

LABELS, DRAWS, BATCH = ["LOO", "GumbelRao"], 20, 3


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Models in float64; networks of the categorical VAE with few units."""
    models.narrow(monkeypatch)
    with dtype_policy("float64"):
        yield


def gradient(name, h, subject, x, call):
    """One estimate w.r.t. the variables of q by the formula, [P]."""
    uniforms = tuple(tf.constant(u) for u in call.uniforms)
    draws = Noise(uniforms, call.n_samples, (), call.key)
    estimator = registry.make_estimator(name, h)
    gradients, _ = literal.estimate(name, subject, x, draws, h, estimator)
    return of_q(subject, gradients)


def of_q(model, gradients):
    """Components of the gradients w.r.t. the variables of q, [P]."""
    ids = {id(v) for v in model.inference_variables}
    pairs = zip(model.trainable_variables, gradients, strict=True)
    return np.concatenate([np.ravel(g) for v, g in pairs if id(v) in ids])


@pytest.mark.parametrize(("by", "reference"), [("logits", "loo"), ("weights", "exact")])
def test_numbers_are_those_of_the_draws(by, reference, own_registry):
    h = recorded_run.settings_of("model=CatLOO,n_samples=2,mc_samples=3,temperature=0.7")
    model = make_model(h, np.full(64, 0.5), False)
    randomize(model.trainable_variables, 3, 0.5)
    x = tf.constant(recorded_run.digits(h)[0][:BATCH], tf.float64)
    names, calls = registry.labels("categorical"), {}
    for label in LABELS:
        recorded_run.recording(names[label], calls, {})
    options = {"by": by, "draws": DRAWS, "reference": reference, "seed": 5, "jit": False}
    record = analyzer.analyze(model, x, h, LABELS, {}, **options)

    subject = AtLogits(model, x) if by == "logits" else model
    # The only variable of AtLogits is such that its gradients are those of each image.
    drawn = {
        label: [
            (call, gradient(names[label], h, subject, x, call))
            for call in calls[names[label], "estimate"]
        ]
        for label in LABELS
    }
    judged = {label: [g for c, g in drawn[label] if c.n_samples == 2] for label in LABELS}
    if reference == "exact":
        c = SimpleNamespace(model=subject, x=x)
        gradients, _ = literal.categorical.exact(c)
        e, error = of_q(subject, gradients), 0.0
    else:
        of_reference = [g for c, g in drawn["LOO"] if c.n_samples == analyzer.SAMPLES][1:]
        assert len(of_reference) == DRAWS
        e = np.mean(of_reference, axis=0)
        error = np.sum(np.var(of_reference, axis=0, ddof=1)) / DRAWS
    norm = np.sqrt(e @ e - error)
    assert record["reference"]["norm"] == pytest.approx(norm, rel=1e-6)
    assert record["reference"]["error"] == pytest.approx(error, rel=1e-6)
    for label in LABELS:
        values, g = record["estimators"][label], np.array(judged[label][1:])  # one warms up
        assert len(g) == DRAWS
        m, variance = np.mean(g, axis=0), np.sum(np.var(g, axis=0, ddof=1))
        square = np.sum((m - e) ** 2) - variance / DRAWS - error
        expected = {
            "variance": variance,
            "bias_squared": square,
            "bias": np.sqrt(max(square, 0)),
            "cosine": m @ e / (np.linalg.norm(m) * np.linalg.norm(e)),
            "relative_variance": variance / norm**2,
            "mse": variance + max(square, 0),
        }
        for name, value in expected.items():
            assert values[name] == pytest.approx(value, rel=1e-5, abs=1e-9), name
        assert values["unbiased"] == (label == "LOO")
        assert (values["n_samples"], values["evaluations"]) == (2, 2 * BATCH)
    # The noise is the same for all that are judged, and another for the reference.
    numbers = {
        label: [float(call.uniforms[0][0, 0]) for call, _ in drawn[label]] for label in LABELS
    }
    assert len(set(numbers["LOO"])) == len(numbers["LOO"])
    assert set(numbers["GumbelRao"]) <= set(numbers["LOO"])
