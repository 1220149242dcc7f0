"""`rebar.compare_estimators` against sums over all states in NumPy, and against plain loops.

A measured number is wrong if it is off by more than LIMIT = 5 of its standard errors, which have
19 degrees of freedom: p = 8e-5 per comparison. The seeds are fixed.
"""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.analysis import bias_variance, comparison
from rebar.errors import RebarError

LIMIT = 5
A, C = np.array([0.5, -1.0, 0.2]), 1.5
W = np.array([1.3, -0.7, 2.0])
STATES = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
P = 1 / (1 + np.exp(-A))
Q = np.prod(np.where(STATES, P, 1 - P), axis=1)
F = np.sin(STATES @ W)
REINFORCE = np.concatenate([-C * F[:, None] * (STATES - P), -F[:, None]], axis=1)
"""Estimates of REINFORCE with one sample, of the derivatives with respect to A and C, by state."""
STRAIGHT_THROUGH = -C * (np.cos(STATES @ W)[:, None] * W) * P * (1 - P)
EXACT = Q @ REINFORCE
BIAS = np.linalg.norm(EXACT[:3] - Q @ STRAIGHT_THROUGH) / np.linalg.norm(EXACT[:3])


@functools.cache
def variables():
    return tf.Variable(A), tf.Variable(C, dtype=tf.float64)


def units(sample, offset=0.0):
    """C sin(b W), by three units with logits A."""
    a, c = variables()
    b = sample.bernoulli("b", a[tf.newaxis])
    f = c * tf.sin(tf.linalg.matvec(b, W))
    return f + offset if c > 0 else f  # needs AutoGraph


def chain(sample, x, w):
    """Two units for each row x, then two categorical variables."""
    b = sample.bernoulli("b", x)
    c = sample.categorical("c", tf.reshape(b @ w, [-1, 2, 3]))
    return tf.sin(tf.reduce_sum(c * [1.0, 2.0, 4.0], axis=[1, 2]) + b[:, 0]) - sample.log_q


def total_variance(estimates):
    return Q @ np.sum(np.square(estimates), axis=1) - np.sum(np.square(Q @ estimates))


@functools.cache
def of_units():
    a, c = variables()
    return rebar.compare_estimators(
        units,
        estimators=["REINFORCE", "ST", "Exact"],
        variables={"logits": [a], "scale": [c]},
        draws=4000,
    )


def test_the_variance_of_reinforce_in_closed_form():
    found = of_units().estimators["REINFORCE"]
    truth = {
        "total": total_variance(REINFORCE),
        "b": total_variance(REINFORCE[:, :3]),
        "logits": total_variance(REINFORCE[:, :3]),
        "scale": total_variance(REINFORCE[:, 3:]),
    }
    assert list(found.variance) == list(truth)
    for part, variance in truth.items():
        error = found.standard_error[part]
        assert abs(found.variance[part] - variance) < LIMIT * error, part
        assert error < 0.05 * variance, part
    assert found.snr == pytest.approx(np.linalg.norm(EXACT) / np.sqrt(truth["total"]), rel=0.1)
    assert abs(found.cosine - 1) < LIMIT * found.cosine_error < 0.05
    assert found.z < 3
    assert (found.evaluations, found.n_samples) == (1, 1)
    assert found.milliseconds > 0


def test_the_exact_estimator_has_neither_bias_nor_variance():
    result = of_units()
    exact = result.estimators["Exact"]
    assert result.reference["norm"] == pytest.approx(np.linalg.norm(EXACT), rel=1e-12)
    assert result.reference["relative_error"] == 0
    assert max(exact.variance.values()) < 1e-20
    assert exact.z < 1e-3
    assert exact.evaluations == 8
    assert exact.cosine == pytest.approx(1)


def test_a_biased_estimator_is_flagged():
    a, _ = variables()
    both = {
        kind: rebar.compare_estimators(
            units, estimators=["ST"], variables=[a], draws=20_000, reference=kind, jit=True
        )
        for kind in ("exact", "LOO")
    }
    for kind, result in both.items():
        found = result.estimators["ST"]
        assert not found.unbiased
        assert found.z > 3, kind
        assert found.bias == pytest.approx(BIAS, rel=0.2), kind
    norm, error = (both["LOO"].reference[name] for name in ("norm", "relative_error"))
    assert abs(norm / np.linalg.norm(EXACT[:3]) - 1) < LIMIT * error < 0.2


def test_draws_are_those_of_estimate():
    x, w = (
        tf.constant([[0.3, -1.0], [2.0, 0.1]]),
        tf.Variable(tf.linspace([-1.0] * 6, [1.0] * 6, 2)),
    )
    draws = 20
    found = rebar.compare_estimators(
        chain,
        x,
        w,
        estimators=[{"b": "DisARM", "c": "LOO"}],
        variables=[w],
        draws=draws,
        reference=None,
        n_samples=2,
        seed=(3, 1),
    ).estimators["b: DisARM, c: LOO"]

    @tf.function(autograph=False)
    def one(step):
        with tf.GradientTape() as tape:
            tape.watch(x)
            estimate = rebar.estimate(
                chain,
                x,
                w,
                estimator={"b": "DisARM", "c": "LOO"},
                n_samples=2,
                seed=(3, 1),
                step=step,
            )
        return tape.gradient(estimate.loss, [x, w]), estimate.evaluations

    results = [one(tf.constant(step)) for step in range(1, draws + 1)]
    # x are the logits of site b.
    of_x, of_w = (np.array([g[i] for g, _ in results], np.float64) for i in range(2))
    for part, values in {"b": of_x, "total": of_w}.items():
        variance = np.sum(np.var(values, axis=0, ddof=1))
        assert found.variance[part] == pytest.approx(variance, rel=1e-4)
    assert found.variance["c"] > 0
    assert found.evaluations == results[0][1]
    assert np.isnan(found.bias)
    assert np.isnan(found.z)


def test_learned_parts_are_trained_and_restored():
    objective = functools.partial(units, offset=20.0)
    nvil = rebar.estimator("NVIL", dtype="float64")
    compare = functools.partial(
        rebar.compare_estimators, objective, draws=200, reference=None, n_samples=1
    )
    fresh = compare(estimators=[nvil], fit_steps=0).estimators["NVIL"]
    weights = nvil.get_weights()
    fitted = compare(estimators=[nvil, "NVIL"], fit_steps=3000)
    assert list(fitted.estimators) == ["NVIL (1)", "NVIL (2)"]
    for before, after in zip(weights, nvil.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert fresh.variance["total"] > 100
    for result in fitted.estimators.values():
        assert result.variance["total"] < 3


def test_sites_that_are_not_discrete_make_the_reference_a_mean():
    """z ~ N(2 b, 1): d E z^2 / d a = 4 p (1 - p)."""
    tfd = pytest.importorskip("tensorflow_probability").distributions
    a, _ = variables()

    def objective(sample):
        b = sample.bernoulli("b", a[tf.newaxis])
        z = sample("z", tfd.Normal(2 * b, tf.constant(1.0, tf.float64)))
        return tf.reduce_sum(tf.square(z), axis=-1)

    result = rebar.compare_estimators(objective, estimators=["LOO"], draws=1000)
    norm, error = (result.reference[name] for name in ("norm", "relative_error"))
    assert abs(norm / np.linalg.norm(4 * P * (1 - P)) - 1) < LIMIT * error < 0.5
    assert result.estimators["LOO"].z < 3


def test_the_bound_of_several_samples_has_no_reference():
    result = rebar.compare_estimators(units, estimators=["VIMCO", "LOO"], draws=20)
    assert np.isnan(result.estimators["VIMCO"].bias)
    assert result.estimators["LOO"].n_samples == 2
    assert np.isfinite(result.estimators["LOO"].z)


def test_table_data_frame_and_figure(tmp_path):
    result = of_units()
    text = str(result)
    assert text.startswith("1 example, 4000 draws; reference: Exact, |e| = 0.41")
    assert "\nST " in text
    assert "of scale" in text
    assert "\n<: no bias detected" in text
    frame = result.to_pandas()
    assert list(frame.index) == ["REINFORCE", "ST", "Exact"]
    assert frame.loc["ST", "variance/b"] == result.estimators["ST"].variance["b"]
    assert frame.loc["ST", "z"] == result.estimators["ST"].z
    path = tmp_path / "comparison.png"
    bias, variance, time = result.plot(path).axes
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [t.get_text() for t in bias.get_yticklabels()] == ["REINFORCE", "ST (biased)", "Exact"]
    assert (variance.get_xlabel(), time.get_xlabel()) == (
        "variance, (unit of f)²",
        "milliseconds per estimate",
    )
    assert result.plot() is not None


def test_mistakes():
    compare = functools.partial(rebar.compare_estimators, units, estimators=["LOO"])
    with pytest.raises(RebarError, match=r"reference='truth': choose from 'exact', 'LOO', None"):
        compare(reference="truth")
    with pytest.raises(RebarError, match="draws=3: too few"):
        compare(draws=3)
    with pytest.raises(RebarError, match="fit_steps=-1"):
        compare(fit_steps=-1)
    with pytest.raises(RebarError, match="estimators='LOO': must be a list"):
        compare(estimators="LOO")
    with pytest.raises(RebarError, match="unknown estimator 'L0O'; did you mean LOO"):
        compare(estimators=["L0O"])
    with pytest.raises(RebarError, match="DecoupledST: has another forward_temperature than 1"):
        compare(estimators=["LOO", rebar.estimator("DecoupledST", forward_temperature=2)])
    with pytest.raises(RebarError, match="group 'b' has the name of a site"):
        compare(variables={"b": [variables()[0]]})
    with pytest.raises(RebarError, match="variables: a single one"):
        compare(variables=variables()[0])
    with pytest.raises(RebarError, match="the objective has no gradient of"):
        compare(variables=[tf.Variable(1.0)])
    with pytest.raises(RebarError, match="has no sample site"):
        rebar.compare_estimators(lambda sample: tf.zeros([1]), estimators=["LOO"])


def test_a_reference_has_noise_of_its_own(monkeypatch):
    """LOO of as many samples as its reference would equal it otherwise."""
    compared = []

    def measure(draws, reference):
        compared.append((draws, reference))
        return bias_variance.measure(draws, reference)

    monkeypatch.setattr(comparison, "SAMPLES", 2)
    monkeypatch.setattr(comparison, "measure", measure)
    rebar.compare_estimators(units, estimators=["LOO"], reference="LOO", draws=40)
    draws, reference = compared[0]
    n, mean, variances = draws.moments()
    distance = np.sum(np.square(mean - reference.gradient))
    assert 0.1 < distance / (2 * np.sum(variances) / n) < 5
