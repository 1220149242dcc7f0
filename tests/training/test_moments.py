"""The running variance of a gradient, against the averages written out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rebar.training.moments import DECAY, Moments
from rebar.types import Estimate

SHAPES = ((2, 3), (3,), ())
COUNT = 10


@pytest.fixture
def variables():
    return [
        keras.Variable(np.zeros(shape), dtype="float64", name=f"v{i}")
        for i, shape in enumerate(SHAPES)
    ]


def gradient(rng):
    return [rng.normal(1, 2, shape) for shape in SHAPES]


def flat(gradients):
    return np.concatenate([np.ravel(g) for g in gradients])


def average(history):
    """E[.] by the 2017 rule: from zero, not debiased."""
    total = np.zeros(COUNT)
    for value in history:
        total = DECAY * total + (1 - DECAY) * value
    return total


def estimate(gradients, tracked=None):
    tensors = [tf.constant(g) for g in gradients]
    tracked = {k: [tf.constant(g) for g in v] for k, v in (tracked or {}).items()}
    return Estimate(tensors, [], tf.zeros([4]), {}, tracked)


def test_a_single_gradient(variables):
    rng = np.random.default_rng(0)
    moments = Moments(variables)
    history = []
    for _ in range(5):
        values, metrics = moments.values()
        expected = np.mean(average([g**2 for g in history]) - average(history) ** 2)
        assert list(values) == [""]
        assert metrics == {}
        np.testing.assert_allclose(values[""], expected, rtol=1e-12, atol=1e-300)
        gradients = gradient(rng)
        moments.update(estimate(gradients))
        history.append(flat(gradients))


@pytest.mark.parametrize("unbiased", [("A", "B"), ("A", "B", "C"), ()])
def test_several_methods_share_the_average_of_the_unbiased_ones(variables, unbiased):
    rng = np.random.default_rng(1)
    moments = Moments(variables, ["A", "B", "C"], unbiased)
    history = {label: [] for label in "ABC"}
    for _ in range(4):
        gradients = {label: gradient(rng) for label in "ABC"}
        moments.update(estimate(gradients["C"], gradients))
        for label in "ABC":
            history[label].append(flat(gradients[label]))
    first = {label: average(history[label]) for label in "ABC"}
    averaged = unbiased or "ABC"
    mu = np.mean([first[label] for label in averaged], axis=0)
    values, metrics = moments.values()
    assert list(values) == ["A", "B", "C"]
    assert list(metrics) == ["deviation/A", "deviation/B", "deviation/C", "log_mean_square"]
    for label in "ABC":
        about = mu if label in averaged else first[label]
        expected = np.mean(average([g**2 for g in history[label]]) - about**2)
        np.testing.assert_allclose(values[label], expected, rtol=1e-12)
        np.testing.assert_allclose(
            metrics[f"deviation/{label}"], np.mean((first[label] - mu) ** 2), rtol=1e-12
        )
    np.testing.assert_allclose(metrics["log_mean_square"], np.log(np.mean(mu**2)), rtol=1e-12)


def test_before_the_first_step(variables):
    """Zero, and log 0, as the first epochs of 2017 show."""
    values, metrics = Moments(variables, ["A"], ["A"]).values()
    assert float(values["A"]) == 0
    assert float(metrics["log_mean_square"]) == -np.inf


@pytest.mark.parametrize("labels", [(), ("A", "B")])
def test_named_variables_are_all_that_changes(variables, labels):
    """Copied by name into fresh moments, they give the same values."""
    rng = np.random.default_rng(2)
    old, new = Moments(variables, labels, labels), Moments(variables, labels, labels)
    gradients = {label: gradient(rng) for label in labels or ["followed"]}
    old.update(estimate(next(iter(gradients.values())), gradients if labels else None))
    named = new.named_variables()
    assert len(named) == (len(SHAPES) + 1) * max(1, len(labels))
    for name, variable in old.named_variables().items():
        named[name].assign(variable)
    for was, now in zip(old.values(), new.values(), strict=True):
        assert {k: float(v) for k, v in was.items()} == {k: float(v) for k, v in now.items()}
    assert float(next(iter(new.values()[0].values()))) != 0
