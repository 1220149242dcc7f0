"""Methods that need values of f only: exact means and variances, goldens, closed forms.

Nothing is sampled: see `problems`.
"""

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.core import logit_gradients
from tests.functional import problems
from tests.functional.problems import TINY, TOY

GRIDS = {
    "reinforce": problems.antithetic_grid,
    "arm": problems.antithetic_grid,
    "disarm": problems.antithetic_grid,
    "loo": lambda logits: problems.outcomes(logits, 2),
}
LOGITS = {
    1: [0.7],
    2: [-1.3, 0.0],
    3: [0.4, -2.0, 1.1],
    "categorical": [[0.4, -1.0, 0.2], [0.3, 0.9, -0.5]],
}
CASES = [
    (method, name)
    for method in GRIDS
    for name in LOGITS
    if name != "categorical" or method in ("reinforce", "loo")
]


def moments(method, f, logits, **options):
    if np.ndim(logits) == 1:
        u, weights = GRIDS[method](logits)
    else:
        u, weights = problems.outcomes(logits, 2 if method == "loo" else 1)
        u = u if method == "loo" else u[0]
    return problems.moments(method, f, logits, u, weights, **options)


@pytest.mark.parametrize(("method", "name"), CASES)
def test_unbiased_for_a_table(method, name):
    logits = LOGITS[name]
    f = problems.table(*np.shape(logits), seed=len(logits))
    _, truth = problems.exact(f, logits)
    mean, _ = moments(method, f, logits)
    np.testing.assert_allclose(mean, truth, rtol=0, atol=1e-11)
    assert np.min(np.abs(truth)) > 0.02


@pytest.mark.parametrize("name", LOGITS)
def test_exact(name):
    logits = LOGITS[name]
    f = problems.table(*np.shape(logits), seed=len(logits))
    mean, _ = problems.moments("exact", f, logits, None, [1.0])
    np.testing.assert_allclose(mean, problems.exact(f, logits)[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [2, "categorical"])
def test_a_baseline_keeps_the_mean_and_lowers_the_variance(name):
    logits = LOGITS[name]
    table = problems.table(*np.shape(logits))

    def f(b):
        return table(b) + 10

    (plain, large), (mean, small) = (
        moments("reinforce", f, logits, baseline=baseline) for baseline in (0.0, 10.0)
    )
    np.testing.assert_allclose([plain, mean], [problems.exact(f, logits)[1]] * 2, atol=1e-9)
    assert np.all(small < 0.1 * large)


@pytest.mark.parametrize("name", [2, "categorical"])
@pytest.mark.parametrize("n_samples", [2, 3, 4])
def test_leave_one_out_of_more_samples_is_unbiased(n_samples, name):
    logits = LOGITS[name] if name == 2 else LOGITS[name][:1]
    f = problems.table(*np.shape(logits))
    u, weights = problems.outcomes(logits, n_samples)
    mean, _ = problems.moments("loo", f, logits, u, weights, n_samples=n_samples)
    np.testing.assert_allclose(mean, problems.exact(f, logits)[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", GRIDS)
def test_the_value_is_unbiased_too(method):
    f, logits = problems.table(3), LOGITS[3]
    u, weights = GRIDS[method](logits)
    rows = np.tile(logits, [len(weights), 1])
    value = rebar.estimate_gradient(method, f, rows, noise=u).value
    assert weights @ value.numpy() == pytest.approx(problems.exact(f, logits)[0], abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_disarm_has_no_more_variance_than_arm_in_any_unit(seed):
    random = np.random.default_rng(seed)
    logits = random.normal(size=4) * 3
    f = problems.table(4, seed=100 + seed)
    _, arm = moments("arm", f, logits)
    _, disarm = moments("disarm", f, logits)
    assert np.all(disarm <= arm)
    assert np.any(disarm < 0.95 * arm)


def test_a_fault_is_seen(monkeypatch):
    """DisARM without the factor that makes up for the pairs that agree."""
    true = logit_gradients.disarm
    monkeypatch.setattr(
        logit_gradients, "disarm", lambda *a: true(*a) * 0.5 / tf.sigmoid(tf.abs(a[-1]))
    )
    f, logits = problems.table(3), LOGITS[3]
    mean, _ = moments("disarm", f, logits)
    assert np.max(np.abs(mean - problems.exact(f, logits)[1])) > 0.01


# Goldens: computed by others, exactly.


@pytest.mark.parametrize("method", GRIDS)
@pytest.mark.parametrize("target", range(5))
def test_one_unit(method, target):
    """f = (b - p0)^2 at 17 logits, against the goldens."""
    p0 = TOY["d1_p0"][target]
    result = [
        np.concatenate(moments(method, lambda b: (b[:, 0] - p0) ** 2, [logit]))
        for logit in TOY["d1_phi"]
    ]
    expected = [TOY["d1_grad"][target], TOY[f"d1_var_{method}"][target]]
    np.testing.assert_allclose(np.transpose(result), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("logit", [-4.0, -0.3, 0.0, 1.0])
def test_one_unit_in_closed_form(logit):
    f = problems.table(1, seed=5)
    d = np.diff(f(tf.constant([[0.0], [1.0]])))[0]
    p = problems.sigmoid(logit)
    q = min(p, 1 - p)
    arm = 2 / 3 * (1 / 8 - (1 / 2 - q) ** 3) - q**2 * (1 - q) ** 2
    closed = {
        "disarm": q * (1 - q) ** 2 * (1 / 2 - q),
        "loo": p * (1 - p) * (1 / 2 - p * (1 - p)),
        "arm": arm,
    }
    for method, variance in closed.items():
        mean, result = moments(method, f, [logit])
        np.testing.assert_allclose(mean, d * p * (1 - p), rtol=1e-10)
        np.testing.assert_allclose(result, d**2 * variance, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("method", GRIDS)
@pytest.mark.parametrize("case", ["sum45_h4", "quad_h4", "quad_h6"])
def test_several_units(case, method):
    f, logits = problems.golden_toy(case)
    mean, variance = moments(method, f, logits)
    np.testing.assert_allclose(mean, TOY[f"{case}_grad"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(variance, TOY[f"{case}_var_{method}"], rtol=1e-9)


def tiny_objective(b):
    """f = log p(x, b) - log q(b | x) of the goldens' tiny model, for its three images."""

    def log_prob(values, logits):
        return tf.reduce_sum(values * logits - tf.nn.softplus(logits), axis=1)

    pixels = b @ TINY["W_dec"] + TINY["b_dec"]
    prior = log_prob(b, TINY["prior_logits"])
    return prior + log_prob(TINY["x"], pixels) - log_prob(b, TINY["logits"])


@pytest.mark.parametrize("method", GRIDS)
def test_the_numbers_of_the_published_code(method):
    """On the same uniforms; theirs are for b = 1[u < p] in REINFORCE and LOO."""
    noise = {
        "reinforce": 1 - TINY["u"],
        "arm": TINY["u"],
        "disarm": TINY["u"],
        "loo": 1 - TINY["u_two"].reshape(2, 3, 4),
    }[method]
    values = {
        "reinforce": TINY["reinforce_f"],
        "loo": (TINY["loo_f1"] + TINY["loo_f2"]) / 2,
    }
    estimate = rebar.estimate_gradient(method, tiny_objective, TINY["logits"], noise=noise)
    np.testing.assert_allclose(estimate.gradient, TINY[f"{method}_grad"], rtol=1e-9, atol=1e-12)
    if method in values:
        np.testing.assert_allclose(estimate.value, values[method], rtol=1e-9)
    else:
        pair = (TINY[f"{method}_f"] + TINY[f"{method}_f_tilde"]) / 2
        np.testing.assert_allclose(estimate.value, pair, rtol=1e-9)
    official = TINY[f"official_{method}_grad"]
    np.testing.assert_allclose(estimate.gradient, official, rtol=1e-4, atol=1e-5)
