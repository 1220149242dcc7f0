"""The variance of an estimator alone, against exact variances and plain NumPy.

The exact variances are sums over all outcomes: of the latent units where an estimate depends on
the noise by way of the samples alone (NVIL, REINFORCE); of the regions of the noise for ARM and
DisARM at one layer, in which an estimate is linear in u, so that two Gauss-Legendre points a
region integrate its square exactly. DRAWS draws in GROUPS groups; a measured variance is wrong if
it is off by more than LIMIT standard errors, which have GROUPS - 1 = 39 degrees of freedom: p =
1e-5 a comparison. The seeds are fixed.
"""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise, registry
from rebar.analysis import meter as meter_module
from rebar.analysis.variance import VarianceMeter, fixed_batch, variables_by_part
from rebar.core import enumeration, samplers
from rebar.errors import RebarError
from rebar.estimators.antithetic import ARM, DisARM
from rebar.estimators.base import Estimator
from rebar.estimators.nvil import NVIL
from rebar.estimators.reinforce import Reinforce
from rebar.noise import Noise
from rebar.types import Estimate
from tests.conformance.cases import (
    FAMILIES,
    flat,
    float64,
    hparams,
    images,
    set_up,
    tensor,
    tiny_model,
)

__all__ = ["float64"]

DRAWS, GROUPS, LIMIT = 4000, 40, 5
SMALLEST, LARGEST = 2.0**-24, 1 - 2.0**-24


def batch(count):
    return tensor(images(count), tf.float32)


def states_of_rows(model, x):
    """(uniforms, probability) of every outcome of the latent units of all rows together."""
    rows = len(x)
    states = enumeration.states_of(model)
    every = tuple(tf.repeat(s, rows, axis=0) for s in states)
    n_states = states[0].shape[0]
    log_q = tf.add_n(list(model.rollout(x, samplers.fixed(every), n_states).log_q))
    log_q = np.reshape(log_q, [n_states, rows])
    for outcome in itertools.product(range(n_states), repeat=rows):
        uniforms = tuple(SMALLEST + (LARGEST - SMALLEST) * tf.gather(s, outcome) for s in states)
        yield uniforms, np.exp(log_q[outcome, range(rows)].sum())


def regions_of_noise(model, x):
    """(uniforms, weight) of the points of an integral over the noise of one row and one layer."""
    (logits,) = model.posterior_logits(x, (tf.zeros([1, *model.n_units]),))
    units = []
    for p in tf.sigmoid(logits)[0].numpy():
        edges = [0, min(p, 1 - p), max(p, 1 - p), 1]
        nodes = []
        for low, high in itertools.pairwise(edges):
            for side in (-1, 1):
                u = (low + high + side * (high - low) / np.sqrt(3)) / 2
                nodes.append((u, (high - low) / 2))
        units.append(nodes)
    for chosen in itertools.product(*units):
        u, weights = zip(*chosen, strict=True)
        yield (tensor([u], tf.float32),), np.prod(weights)


def exact_variances(estimator, model, x, outcomes):
    """Part -> mean over components of the variance."""
    estimate = tf.function(lambda u: estimator.estimate(model, x, Noise(u)).gradients)
    total = first = second = 0.0
    for uniforms, weight in outcomes(model, x):
        g = flat(estimate(uniforms)).astype(np.float64)
        total, first, second = total + weight, first + weight * g, second + weight * g**2
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    variance = second - first**2
    paths = [v.path for v in model.trainable_variables]
    owner = np.repeat(paths, [np.prod(v.shape, dtype=int) for v in model.trainable_variables])
    layers = [f"q_{layer}" for layer in range(len(model.n_units))]
    masks = {name: np.array([path.startswith(name) for path in owner]) for name in layers}
    of_q = np.any(list(masks.values()), axis=0)
    masks |= {"total": np.full(len(owner), True), "q": of_q, "p": ~of_q}
    return {name: np.mean(variance[mask]) for name, mask in masks.items()}


def differing_parts(estimator, model, x, outcomes):
    """Parts whose measured variance is not the exact one."""
    expected = exact_variances(estimator, model, x, outcomes)
    (measured,) = VarianceMeter(model, estimator)(x, DRAWS, 1, groups=GROUPS).values()
    assert set(measured.variance) == set(expected)
    wrong = []
    for name, error in measured.standard_error.items():
        assert error < 0.1 * expected[name], f"too few draws for {name}"
        if abs(measured.variance[name] - expected[name]) > LIMIT * error:
            wrong.append(name)
    return wrong


CASES = [
    (NVIL, 1, 2, states_of_rows),
    (NVIL, 2, 1, states_of_rows),
    (Reinforce, 1, 2, states_of_rows),
    (ARM, 1, 1, regions_of_noise),
    (DisARM, 1, 1, regions_of_noise),
]


@pytest.mark.parametrize(("kind", "n_layer", "rows", "outcomes"), CASES)
def test_the_measured_variance_is_the_exact_one(kind, n_layer, rows, outcomes):
    model = tiny_model(n_layer)
    assert differing_parts(set_up(kind(), model), model, batch(rows), outcomes) == []


def test_fault_the_same_noise_in_every_draw(monkeypatch):
    """Then no variance is seen at all."""
    key = noise.key
    monkeypatch.setattr(noise, "key", lambda seed, stream, *position: key(seed, stream))
    model = tiny_model(2)
    wrong = differing_parts(set_up(NVIL(), model), model, batch(1), states_of_rows)
    assert wrong == ["total", "q", "q_0", "q_1", "p"]
    (measured,) = rebar.estimator_variance(
        model, set_up(NVIL(), model), batch(1), 20, fit_steps=0
    ).values()
    assert measured.variance["total"] == 0


def test_few_draws_are_unbiased_and_the_standard_error_is_the_spread():
    """200 measurements of 8 draws in 4 groups: with n for n - 1 the mean would be 7/8 of it."""
    model = tiny_model(1)
    estimator = set_up(DisARM(), model)
    meter = VarianceMeter(model, estimator)
    expected = exact_variances(estimator, model, batch(1), regions_of_noise)["total"]
    measured = [meter(batch(1), 8, 0, (i,), groups=4)["DisARM"] for i in range(200)]
    values = np.array([m.variance["total"] for m in measured])
    spread = values.std(ddof=1)
    assert abs(values.mean() - expected) < 4 * spread / np.sqrt(200)
    assert 4 * spread / np.sqrt(200) < expected / 8
    stated = np.sqrt(np.mean([m.standard_error["total"] ** 2 for m in measured]))
    assert 0.8 < stated / spread < 1.25


@pytest.mark.parametrize(("jit", "dtype"), [(False, "float32"), (True, "float64")])
def test_plain_numpy_gives_the_same(request, jit, dtype):
    """250 draws in 2 groups of 125, each of them more than a call takes."""
    if dtype == "float64":
        request.getfixturevalue("float64")
    exactly = {"float32": 1e-4, "float64": 1e-10}[dtype]
    model = tiny_model(2)
    estimator = set_up(DisARM(continuation="independent"), model)
    x = tf.cast(batch(3), dtype)

    @tf.function(autograph=False)
    def estimate(keys):
        draws = noise.latents(keys[0], 2, 3, model.n_units, dtype)
        draws = noise.with_branches(draws, keys[1])
        return estimator.estimate(model, x, draws).gradients

    def keys(draw):
        return np.stack([noise.key((5, 1), "variance", 7, draw, i) for i in range(2)])

    draws = np.stack([flat(estimate(tf.constant(keys(i)))) for i in range(1, 251)])
    draws = draws.astype(np.float64)
    meter = VarianceMeter(model, estimator, 2, jit)
    measured = meter(x, 250, (5, 1), (7,), groups=2)["DisARM"]
    halves = [draws[half].var(axis=0, ddof=1).mean() for half in (slice(125), slice(125, None))]
    np.testing.assert_allclose(
        measured.variance["total"], draws.var(axis=0, ddof=1).mean(), rtol=exactly
    )
    np.testing.assert_allclose(
        measured.standard_error["total"], abs(halves[0] - halves[1]) / 2, rtol=1e-2
    )


class Constructed(Estimator):
    """A gradient of 10000 + u - 1/2 in every component, of which the first may be replaced."""

    first = None

    def estimate(self, model, x, draws):
        g = 10000 + draws.uniforms[0][0, 0] - 0.5
        gradients = [g + tf.zeros(v.shape) for v in model.trainable_variables]
        if self.first is not None:
            gradients[0] += self.first
        return Estimate(gradients, [], tf.zeros([x.shape[0]]), {})


def test_a_mean_far_beyond_the_deviations_costs_no_digits():
    """In float32 the square of 10000 has a rounding error of 4, the variance is 1/12."""
    model = tiny_model(1)
    (measured,) = rebar.estimator_variance(model, Constructed(), batch(1), 2000).values()
    variance, error = measured.variance["total"], measured.standard_error["total"]
    assert abs(variance - 1 / 12) < LIMIT * error < 0.05 / 12 * LIMIT


def test_what_is_not_finite_is_not_called_zero():
    model = tiny_model(1)
    estimator = Constructed()
    for value in (np.nan, np.inf):
        estimator.first = value
        (measured,) = rebar.estimator_variance(model, estimator, batch(1), 4, fit_steps=0).values()
        assert np.isnan(measured.variance["total"])
        assert measured.variance["q"] > 0


@pytest.mark.parametrize(
    ("family", "n_layer", "nonlinear"),
    [("unconditional", 2, True), *((family, 3, False) for family in FAMILIES)],
)
def test_parts(family, n_layer, nonlinear):
    model = tiny_model(n_layer, family, nonlinear)
    parts = variables_by_part(model, batch(2))
    layers = [f"q_{layer}" for layer in range(n_layer)]
    assert list(parts) == ["total", "q", *layers, "p"]
    paths = [v.path for v in model.trainable_variables]
    for name in layers:
        owned = [i for i, path in enumerate(paths) if path.startswith(name)]
        assert parts[name] == owned
    assert sorted(i for name in layers for i in parts[name]) == parts["q"]
    assert sorted(parts["q"] + parts["p"]) == parts["total"] == list(range(len(paths)))


def test_a_variable_of_several_layers_counts_in_q_only():
    model = tiny_model(2)

    class Shared:
        n_units = model.n_units
        trainable_variables = model.trainable_variables
        inference_variables = model.inference_variables

        def posterior_logits(self, x, samples):
            first, second = model.posterior_logits(x, samples)
            return first, second + tf.reduce_sum(first)

    parts = variables_by_part(Shared(), batch(1))
    own = variables_by_part(model, batch(1))
    assert "q_0" not in parts
    assert {name: parts[name] for name in ("q", "q_1", "p")} == {
        name: own[name] for name in ("q", "q_1", "p")
    }


def test_all_that_is_tracked_sees_the_noise_that_each_sees_alone():
    model = tiny_model(2)
    labels = ("NVIL", "ARM", "DisARM", "DynamicREBAR")
    settings = hparams("SBNTrackGradVariances", 2, track=labels, follow="ARM")
    tracked = registry.make_estimator("SBNTrackGradVariances", settings)
    set_up(tracked, model)
    together = rebar.estimator_variance(model, tracked, batch(3), 30, 2, n_samples=2, fit_steps=0)
    assert list(together) == list(labels)
    for label, member in zip(labels, tracked.estimators, strict=True):
        alone = rebar.estimator_variance(
            model, member, batch(3), 30, 2, n_samples=2, label="mine", fit_steps=0
        )["mine"]
        assert alone[:2] == together[label][:2]
        evaluations = {"NVIL": 1}.get(label, 3) * 2 * 3
        assert alone.evaluations == evaluations
        record = together[label].record()
        assert record["evaluations"] == evaluations
        assert record["times_evaluations"]["q_1"] == evaluations * record["q_1"]
        assert record["standard_error"]["p"] == alone.standard_error["p"]
    # p's gradient is one and the same.
    errors = [together[label].variance["p"] for label in labels]
    np.testing.assert_allclose(errors, errors[0], rtol=1e-4)


def test_disarm_varies_less_than_arm():
    """At one layer it is ARM's mean given the pair."""
    model = tiny_model(1)
    arm, disarm = (
        rebar.estimator_variance(model, kind(), batch(4), 2000, 3)[kind.__name__]
        for kind in (ARM, DisARM)
    )
    error = np.hypot(arm.standard_error["q"], disarm.standard_error["q"])
    assert arm.variance["q"] - disarm.variance["q"] > 5 * error


def test_seeds_and_positions_have_noise_of_their_own():
    model = tiny_model(1)
    meter = VarianceMeter(model, set_up(NVIL(), model))

    def variance(*arguments):
        (measured,) = meter(batch(2), 20, *arguments).values()
        return measured.variance["total"]

    assert variance(1) == variance(1)
    assert len({variance(1), variance(2), variance((1, 1)), variance(1, (0,))}) == 4


def test_milliseconds_are_the_median_over_calls_of_the_time_of_a_draw(monkeypatch):
    """Clock: 3 s for the call to warm up, then 1, 9, 2, 2 and 7 s for five draws each."""
    lengths = iter([3, 1, 9, 2, 2, 7])
    readings = iter(t for length in lengths for t in (0.0, float(length)))
    monkeypatch.setattr(meter_module.time, "perf_counter", lambda: next(readings))
    model = tiny_model(1)
    meter = VarianceMeter(model, ARM())
    assert meter(batch(1), 25, groups=5)["ARM"].milliseconds == 2000 / 5


def test_mistakes_are_told():
    model = tiny_model(1)
    with pytest.raises(RebarError, match=r"n_draws=3: too few.*give 4"):
        rebar.estimator_variance(model, ARM(), batch(1), 3)
    with pytest.raises(RebarError, match="no images"):
        rebar.estimator_variance(model, ARM(), batch(1)[:0], 10)
    with pytest.raises(RebarError, match="n_samples=0: must be at least 1"):
        rebar.estimator_variance(model, ARM(), batch(1), 10, n_samples=0)


def test_the_fixed_batch():
    train = np.arange(40, dtype=np.uint8).reshape(20, 2)
    chosen = fixed_batch(train, 5)
    assert chosen.shape == (5, 2)
    assert {tuple(row) for row in chosen} < {tuple(row) for row in train}
    assert np.any(chosen != train[:5])
    np.testing.assert_array_equal(fixed_batch(train, 8)[:5], chosen)
    assert len(fixed_batch(train, 100)) == 20
    grey = np.full([1000, 10], 0.3, np.float32)
    grey[:, 0], grey[:, 1] = 0, 1
    np.testing.assert_array_equal(fixed_batch(grey, 1000), grey)
    binary = fixed_batch(grey, 1000, dynamic=True)
    assert binary.dtype == np.uint8
    assert np.all(binary[:, :2] == [0, 1])
    assert abs(binary[:, 2:].mean() - 0.3) < 0.03
