"""BitFlip, UGC and tUGC: exact means and variances, over all noise that changes a sample."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise as noise_module
from rebar.estimators import bit_flip
from rebar.estimators.bit_flip import UGC, BitFlip, TruncatedUGC
from tests.conformance.faults.planting import module_with
from tests.estimators.test_golden_frontier import GOLDENS, Quadratic, Toy, estimates
from tests.estimators.test_golden_network import EXACT, Network

TOY = np.load(Path(__file__).parents[1] / "goldens" / "disarm" / "disarm_toy.npz")


class Table(Toy):
    """f by its values at all states, first unit slowest; subclasses set `f` and `phi`."""

    def rollout(self, x, sampler, n_samples=1, encoded=None):
        logits = tf.tile(self.logits, [n_samples, 1])
        b = sampler(0, logits)
        places = 2 ** np.arange(len(self.phi))[::-1]
        f = tf.gather(tf.constant(self.f), tf.cast(tf.linalg.matvec(b, 1.0 * places), tf.int32))
        return rebar.Rollout(f, f, (tf.zeros_like(f),), (logits,), (b,))


def table(values, logits):
    return type("Values", (Table,), {"f": values, "phi": np.asarray(logits, "float64")})


def quadratic(logits):
    """f = b' A b + c' b of six units, at other logits."""
    b = np.array(list(itertools.product((0.0, 1.0), repeat=6)))
    return table(np.einsum("ni,ij,nj->n", b, TOY["quad_h6_A"], b) + b @ TOY["quad_h6_c"], logits)


def moments(estimator, toy, monkeypatch):
    """Exact mean and variance: all intervals of each uniform, and all units that can be drawn."""
    p = 1 / (1 + np.exp(-toy.phi))
    edges = np.sort([0 * p, p, 1 - p, 0 * p + 1], axis=0).T
    middles = itertools.product(*(edges[:, 1:] + edges[:, :-1]) / 2)
    weights = np.prod(list(itertools.product(*np.diff(edges, axis=1))), axis=1)
    n = np.lcm.reduce(np.arange(1, len(p) + 1))  # a multiple of every number of units
    uniforms = np.repeat(list(middles), n, axis=0)
    units = np.tile((np.arange(n) + 0.5) / n, len(weights))
    drawn = module_with(noise_module, uniforms=lambda *_: tf.constant(units))
    monkeypatch.setattr(bit_flip, "noise_module", drawn)
    g = estimates(estimator, uniforms[np.newaxis], noise_module.key(0, "further"), toy)
    weights = np.repeat(weights, n) / n
    mean = weights @ g
    return mean, weights @ np.square(g - mean)


ESTIMATORS = {
    "DisARM": rebar.estimator("DisARM", dtype="float64"),
    **{kind.__name__: kind(dtype="float64") for kind in (BitFlip, UGC, TruncatedUGC)},
}


COMPILED = tf.function(ESTIMATORS["TruncatedUGC"]._units, autograph=False, jit_compile=True)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_means(name, monkeypatch):
    for toy, exact in ((Quadratic, GOLDENS["quad_h4/exact_grad"]), (Network, EXACT)):
        mean, _ = moments(ESTIMATORS[name], toy, monkeypatch)
        np.testing.assert_allclose(mean, exact, rtol=0, atol=1e-12)


def test_golden_variances(monkeypatch):
    _, variance = moments(ESTIMATORS["BitFlip"], Quadratic, monkeypatch)
    np.testing.assert_allclose(variance, GOLDENS["quad_h4/var/bitflip1"], rtol=1e-9)
    _, variance = moments(ESTIMATORS["BitFlip"], Network, monkeypatch)
    assert np.sum(variance) == pytest.approx(1.728, rel=0.001)
    _, variance = moments(ESTIMATORS["DisARM"], Quadratic, monkeypatch)
    np.testing.assert_allclose(variance, GOLDENS["quad_h4/var/disarm_K2"], rtol=1e-9)


@pytest.mark.parametrize("logits", 3 * noise_module.generator(0).normal(size=(3, 6)))
def test_each_unit_has_one_of_both_variances(logits, monkeypatch):
    """UGC has that of BitFlip or DisARM, and tUGC that of BitFlip with T units or DisARM."""
    toy = quadratic(logits)
    (mean, pair), (_, flip), (_, ugc), (_, truncated) = (
        moments(estimator, toy, monkeypatch) for estimator in ESTIMATORS.values()
    )
    rare = 1 / (1 + np.exp(np.abs(logits)))
    np.testing.assert_allclose(ugc, np.where(rare < 1 / 12, flip, pair), rtol=1e-9)
    ascending = np.argsort(rare)
    (below,) = np.nonzero(rare[ascending] < 0.5 / np.arange(1, 7))
    count = len(below)
    assert list(below) == list(range(count))
    of_t = (flip + mean**2) * count / 6 - mean**2
    flips = np.isin(np.arange(6), ascending[:count])
    assert 0 < count < 6
    np.testing.assert_allclose(truncated, np.where(flips, of_t, pair), rtol=1e-9)
    assert np.sum(truncated) < np.sum(ugc) <= np.sum(pair)
    assert np.sum(ugc) < np.sum(flip)


def test_no_order_holds_for_all_functions(monkeypatch):
    """f = 1[b_1 = b_2]: a pair that differs in both units has equal values of f."""
    toy = table(np.array([1.0, 0.0, 0.0, 1.0]), [-3, 0])
    variance = {n: moments(e, toy, monkeypatch)[1][0] for n, e in ESTIMATORS.items()}
    assert variance["DisARM"] < 1e-12 < 0.002 < variance["TruncatedUGC"] < variance["UGC"]


@pytest.mark.parametrize(
    ("rare", "flips"),
    [
        ([0.5, 0.5, 0.5], [0, 0, 0]),
        ([0.5, 0.5, 0.49], [0, 0, 1]),
        ([0.3, 0.2, 0.4], [0, 1, 0]),
        ([0.2, 0.25, 0.1], [1, 0, 1]),
        ([0.3, 0.3, 0.3], [1, 0, 0]),
        ([0.2, 0.2, 0.2], [1, 1, 0]),
        ([0.0, 0.0, 0.0], [1, 1, 1]),
    ],
)
def test_the_units_with_flips(rare, flips):
    """T of tUGC is below its limit 1 / (2 T), not at it; the first of equal units are flipped."""
    for of_rows in (ESTIMATORS["TruncatedUGC"]._units, COMPILED):
        units, drawn = of_rows(tf.constant([rare, rare[::-1]], tf.float64))
        np.testing.assert_array_equal(units[0], flips)
        np.testing.assert_array_equal(units, drawn)
        assert np.sum(units[1]) == sum(flips)


def test_saturated_units(monkeypatch):
    """The derivatives of flips are accurate on both sides, and vary far less than DisARM's."""
    toy = table(np.arange(8.0), [-30, 30, 0])
    for name in ("BitFlip", "UGC", "TruncatedUGC"):
        mean, variance = moments(ESTIMATORS[name], toy, monkeypatch)
        slope = np.exp(-30) * np.array([4, 2])
        np.testing.assert_allclose(mean[:2], slope, rtol=1e-9)
        assert np.all(variance[:2] < 10 * slope**2), name
    _, variance = moments(ESTIMATORS["DisARM"], toy, monkeypatch)
    assert np.all(variance[:2] > 1e10 * slope**2)
