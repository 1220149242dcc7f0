"""`rebar.estimate_gradient` of functions of categorical variables."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import rebar
import rebar.noise
from rebar.errors import RebarError
from rebar.functional import scores
from rebar.functional.straight_through import LAYERS
from tests.functional.test_straight_through import DIFFUSED, options

METHODS = ("exact", "reinforce", "loo", *LAYERS)
RANDOM = np.random.default_rng(0)


def categorical_estimate(*arguments, **options):
    return rebar.estimate_gradient(*arguments, family="categorical", **options)


A, C = RANDOM.normal(size=(8, 8)), RANDOM.normal(size=8)
FEW = RANDOM.normal(size=(2, 2, 4))


def quadratic(z):
    flat = tf.reshape(z, [-1, 8])
    return tf.einsum("ni,ij,nj->n", flat, A, flat) + tf.linalg.matvec(flat, C)


def by_enumeration(f, logits):
    """Value [B] and gradient [B, L, C], by differentiating the sum over all codes."""
    codes = [np.eye(4)[list(i)] for i in itertools.product(range(4), repeat=2)]
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        pi = tf.nn.softmax(logits)
        value = tf.add_n(
            [
                tf.reduce_prod(tf.reduce_sum(pi * code, -1), -1) * f(code + tf.zeros_like(logits))
                for code in codes
            ]
        )
    return value, tape.gradient(value, logits)


@pytest.mark.parametrize("jit", [False, True])
def test_exact(jit):
    def call(logits):
        return categorical_estimate("exact", quadratic, logits)[:2]

    gradient, value = (tf.function(call, jit_compile=True) if jit else call)(tf.constant(FEW))
    expected, exact = by_enumeration(quadratic, FEW)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, exact, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_means(name):
    """Unbiased, or for this f unbiased, by 5 standard errors, a false alarm in 1.7e6 each of 8."""
    n = 10_000
    more = {"scale": 4.0} if name == "reinmax_cv" else {}
    _, exact = by_enumeration(quadratic, FEW[:1])
    estimate = categorical_estimate(
        name,
        quadratic,
        FEW[:1] if name == "exact" else np.repeat(FEW[:1], n, axis=0),
        **({} if name == "exact" else {"seed": 0, "step": 0} | options(name) | more),
    )
    assert estimate.evaluations == {"exact": 16, "loo": 2}.get(name, 1)
    assert estimate.unbiased == (name not in LAYERS)
    assert estimate.value.shape == estimate.gradient.shape[:1]
    if name == "exact":
        np.testing.assert_allclose(estimate.gradient, exact, atol=1e-12)
        return
    mean, spread = np.mean(estimate.gradient, 0), np.std(estimate.gradient, 0)
    deviations = np.max(np.abs(mean - exact[0]) / (spread / np.sqrt(n)))
    # reinmax_rk2 at 1/2 is ReinMax.
    if estimate.unbiased or name in ("reinmax", "reinmax_rk2"):
        assert deviations < 5
    else:
        assert deviations > (6 if name in DIFFUSED else 8)


def test_loo_with_more_samples_varies_less():
    many = np.repeat(FEW[:1], 5000, axis=0)
    variances = [
        np.var(
            categorical_estimate("loo", quadratic, many, seed=0, step=0, n_samples=k).gradient,
            axis=0,
        ).sum()
        for k in (2, 8)
    ]
    assert variances[1] < 0.4 * variances[0]


def test_value_carries_the_variables_of_f():
    w = tf.Variable(1.5, dtype=tf.float64)
    for name in METHODS:
        arguments = {} if name == "exact" else {"seed": 0, "step": 0} | options(name)
        with tf.GradientTape() as tape:
            estimate = categorical_estimate(name, lambda z: w * quadratic(z), FEW, **arguments)
            value = tf.reduce_sum(estimate.value)
        np.testing.assert_allclose(tape.gradient(value, w), value / w, rtol=1e-12)


def test_errors_of_functions(monkeypatch):
    seeds = {"seed": 0, "step": 0}
    for message, call in {
        "unknown method 'nothing'.*available: exact, reinforce, loo, double_cv, .*rebar, relax": (
            "nothing",
            quadratic,
            FEW,
        ),
        "draws: unknown option of reinmax; .*: temperature; ": ("reinmax", quadratic, FEW),
        r"f of shape \[2, 4\]: .* shape \[2\]": ("loo", lambda z: z[:, 0], FEW),
        r"logits of shape \[4\]: .*\[B, ..., C\]": ("loo", quadratic, FEW[0, 0]),
        "f has no derivative .*reinforce, loo": (
            "st",
            lambda z: tf.stop_gradient(quadratic(z)),
            FEW,
        ),
    }.items():
        arguments = seeds | ({"draws": 1} if "draws" in message else {})
        with pytest.raises(RebarError, match=message):
            categorical_estimate(*call, **arguments)
    with pytest.raises(RebarError, match=r"n_samples=1: .*from 2 to"):
        categorical_estimate("loo", quadratic, FEW, n_samples=1, **seeds)
    monkeypatch.setattr(scores, "MAX_CODES", 15)
    with pytest.raises(RebarError, match=r"exact: 4\^2 codes are more than 15"):
        categorical_estimate("exact", quadratic, FEW)
