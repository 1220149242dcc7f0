"""CARMS, DisARM, ARSM and UNORD on rewards with exact gradients, and golden numbers of CARMS."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise
from rebar.core import category_trees, coupled, without_replacement
from tests.estimators.categorical_toys import SHAPES, Reward, drawn, estimates

GOLDENS = np.load(Path(__file__).parents[1] / "goldens" / "frontier" / "frontier_quad_h4.npz")
PAIRS = ("DisARM-SB", "DisARM-Tree", "DisARM-IW")
CRITICAL = 7.0
"""Standard errors; 120 components exceed it with probability 3e-10."""


def build(label, **options):
    return rebar.estimator(label, dtype="float64", **options)


@pytest.mark.slow
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(
    ("label", "options"),
    [
        *(("CARMS", {"n_antithetic": n}) for n in (2, 3, 4)),
        *((label, {}) for label in PAIRS),
        ("ARSM", {}),
        *(("UNORD", {"n_codes": k}) for k in (2, 7)),
    ],
)
def test_unbiased(label, options, shapes):
    """A bias of 1 % of the gradient is detected with probability .999."""
    exact = Reward(SHAPES[shapes]).exact()
    largest_error = 0.01 * np.linalg.norm(exact) / (CRITICAL + 3)
    mean, error = drawn(build(label, **options), SHAPES[shapes], largest_error)
    assert np.all(np.abs(mean - exact) < CRITICAL * error + 1e-12)


def outcomes(count, probability):
    """All decisions [n, count], and of each the product of its probabilities."""
    turns = np.array(list(itertools.product([0.0, 1.0], repeat=count)))
    return turns, np.prod(np.where(turns == 1, probability, 1 - probability), axis=-1)


def literal_probability(p, z):
    """P(b~_i = 1) of each node of a stick, by uniforms: b = 1[u < p], b~ = 1[u > 1 - p]."""
    u = (np.arange(200_000) + 0.5) / 200_000
    result = []
    for i, p_i in enumerate(p):
        given = u[u < p_i] if i == z else u[u >= p_i] if i < z else u
        result.append(np.mean(given > 1 - p_i))
    return np.array(result)


@pytest.mark.parametrize("label", PAIRS)
@pytest.mark.parametrize("shapes", ["1x4", "2x3"])
def test_the_mean_over_all_pairs_is_exact(label, shapes, monkeypatch):
    """Every main sample and every decision of its antithetic one, weighted by probabilities."""
    ((v, c),) = SHAPES[shapes]
    model, estimator, total = Reward(SHAPES[shapes]), build(label), 0.0
    (logits,) = model.logits
    left, right = (np.array(side) for side in estimator.tree(c))
    pi = np.sort(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), axis=-1)
    p = pi @ left.T / (pi @ (left | right).T)
    rank = np.argsort(np.argsort(logits, axis=-1), axis=-1)
    for code in itertools.product(range(c), repeat=v):
        q, per_variable = 1.0, []
        for variable, category in enumerate(code):
            place = rank[variable, category]
            turn, active = left[:, place] * 1.0, (left | right)[:, place] * 1.0
            phi = np.log(p[variable] / (1 - p[variable]))
            given = category_trees.antithetic_probability(phi, turn, active)
            per_variable.append(outcomes(c - 1, given))
            q *= pi[variable, place]
        products = list(itertools.product(*(zip(*both, strict=True) for both in per_variable)))
        turns = np.array([[turn for turn, _ in both] for both in products])
        weights = q * np.array([np.prod([w for _, w in both]) for both in products])
        u = tf.constant(1 - turns)  # below the probability where the decision is 1
        monkeypatch.setattr(noise, "uniforms", lambda *_, u=u: u)
        rows = Reward(SHAPES[shapes], len(turns))
        certain = np.clip(np.eye(c)[list(code)].reshape(1, -1), 1e-9, 1 - 1e-9)
        draws = noise.Noise(
            (tf.repeat(tf.constant(certain), len(turns), 0),), 1, key=noise.key(0, "further")
        )
        total = total + weights @ estimates(estimator, rows, draws).numpy()
    np.testing.assert_allclose(total, model.exact(), rtol=0, atol=1e-12)


def test_the_antithetic_decisions_have_the_probabilities_of_uniforms():
    p = np.array([0.2, 0.7, 0.45])
    phi, left, right = np.log(p / (1 - p)), *category_trees.stick(4)
    for z in range(4):
        turn, active = left[:, z] * 1.0, (left | right)[:, z] * 1.0
        given = category_trees.antithetic_probability(phi, turn, active)
        np.testing.assert_allclose(given, literal_probability(p, z), atol=1e-4)


def test_leaves_of_both_trees():
    for make, n in itertools.product((category_trees.stick, category_trees.balanced), (2, 3, 5, 8)):
        left, right = (tf.constant(side, tf.float64) for side in make(n))
        turns = tf.constant(list(itertools.product([0.0, 1.0], repeat=n - 1)), tf.float64)
        leaves = category_trees.leaves(turns[:, tf.newaxis], left, right)
        np.testing.assert_array_equal(np.sum(leaves, axis=-1), 1)
        logits = tf.constant(np.random.default_rng(n).normal(size=[1, 1, n]))
        p = tf.sigmoid(category_trees.node_logits(logits, *make(n)))
        weight = tf.reduce_prod(tf.where(turns[:, tf.newaxis] > 0.5, p, 1 - p), axis=-1)
        mean = tf.reduce_sum(weight[..., tf.newaxis] * leaves, axis=0)
        np.testing.assert_allclose(mean, tf.nn.softmax(logits)[0], atol=1e-12)


def pairs_of(pi, n):
    """P of all pairs of categories, and the ratio r: [V, C, C] each."""
    ranks, independent = coupled.orders(pi.shape[-1])
    low = coupled.probability_before(tf.constant(pi[np.newaxis]), ranks)[0]  # [V, R, C]
    low, p, size = tf.transpose(low, [2, 0, 1]), tf.constant(pi.T), pi.shape[-1]
    joint, ratio = np.zeros([2, len(pi), size, size])
    for a, b in np.ndindex(size, size):
        pair = coupled.pair_probability(low[a], p[a], low[b], p[b], n)
        ratio[:, a, b] = coupled.ratio(p[a], p[b], pair, independent)
        joint[:, a, b] = np.sum(pair, axis=-1) + independent * p[a] * p[b]
    return joint / (len(ranks) + independent), ratio


@pytest.mark.parametrize("case", ["mild", "peaked"])
@pytest.mark.parametrize("n", [2, 3])
def test_carms_golden(case, n):
    """Probabilities of pairs, the exact mean over them, and the variance of 100,000 draws."""
    theta, f = GOLDENS[f"carms/{case}/theta"], GOLDENS["carms/f"]
    pi = np.exp(theta) / np.exp(theta).sum(-1, keepdims=True)
    off, exact = ~np.eye(3, dtype=bool), GOLDENS[f"carms/{case}/exact_grad"]
    expected = GOLDENS[f"carms/{case}/joint_M{n}"]
    joint, ratio = pairs_of(pi, n)
    np.testing.assert_allclose(joint[:, off], expected[:, off], atol=1e-9)
    for v, means in enumerate((f @ pi[1], pi[0] @ f)):
        weights = expected[v] * ratio[v] * (means[:, None] - means) * off
        np.testing.assert_allclose((weights - weights.T).sum(1) / 2, exact[v], atol=1e-8)

    class Table(Reward):
        def value(self, samples):
            (z,) = samples
            return tf.einsum("na,nb,ab->n", z[:, 0], z[:, 1], tf.constant(f))

    rows = 100_000
    model = Table([(2, 3)], rows)
    model.logits = [theta]
    draws = noise.latents(noise.key(1, "analysis"), 1, rows, model.n_units, tf.float64)
    g = estimates(build("CARMS", n_antithetic=n), model, draws).numpy()
    error = np.std(g, axis=0) / np.sqrt(rows)
    assert np.all(np.abs(np.mean(g, axis=0) - exact.ravel()) < CRITICAL * error)
    expected = GOLDENS[f"carms/{case}/mc_var_M{n}_exact"].ravel()
    np.testing.assert_allclose(np.sum(np.var(g, axis=0)), np.sum(expected), rtol=0.05)


@pytest.mark.parametrize(("size", "n"), [(3, 3), (12, 2), (12, 4)])
def test_coupled_samples_have_the_probabilities_of_pairs(size, n):
    """Also with random orders, for more than 11 categories: 300,000 draws, critical value 6."""
    rows, random = 300_000, np.random.default_rng(0)
    pi = random.dirichlet(np.ones(size), size=[1, 1])
    ranks, independent = coupled.orders(size)
    z = np.eye(size)[random.choice(size, [rows, 1], p=pi[0, 0])]
    every = tf.constant(np.tile(pi, [rows, 1, 1]))
    below = tf.tile(coupled.probability_before(tf.constant(pi), ranks), [rows, 1, 1, 1])
    u = noise.uniforms(noise.key(5, "further"), [n, 2, rows, 1], tf.float64)
    others = coupled.coupled(tf.constant(z), every, below, ranks, independent, u).numpy()
    samples = [z[:, 0], *others[:, :, 0]]
    probability = pairs_of(pi[0], n)[0][0]
    np.testing.assert_allclose(probability.sum(1), pi[0, 0], atol=1e-9)
    error = np.sqrt(probability * (1 - probability) / rows) + 1e-9
    for a, b in itertools.combinations(range(n), 2):
        frequency = samples[a].T @ samples[b] / rows
        assert np.max(np.abs(frequency - probability) / error) < 6


def set_probability(p, removed=()):
    """Probability that the codes come first, in any order, by permutations."""
    total = 0.0
    for order in itertools.permutations(set(range(len(p))) - set(removed)):
        rest, product = 1 - sum(p[i] for i in removed), 1.0
        for i in order:
            product, rest = product * p[i] / rest, rest - p[i]
        total += product
    return total


@pytest.mark.parametrize("k", [2, 3, 5])
def test_probabilities_of_sets(k):
    p = np.random.default_rng(k).dirichlet(np.ones(7))[:k]
    of_set, of_one, of_pair = without_replacement.log_set_probabilities(
        tf.constant(np.log(p))[:, None]
    )
    np.testing.assert_allclose(tf.exp(of_set[0]), set_probability(p), rtol=1e-12)
    for i, j in itertools.product(range(k), repeat=2):
        expected = set_probability(p, {i, j})
        np.testing.assert_allclose(tf.exp(of_pair[i, j, 0]), expected, rtol=1e-12)
    np.testing.assert_allclose(of_one[:, 0], tf.linalg.diag_part(of_pair[..., 0]))


@pytest.mark.parametrize(("n_codes", "k"), [(4, 2), (4, 3), (4, 4), (9, 2), (9, 5), (9, 7)])
def test_the_mean_over_all_sets_is_exact(n_codes, k):
    """1x4 and 2x3 codes: sum of P(S) times the estimate of d E f / d p, and with all of them."""
    random = np.random.default_rng(n_codes)
    p, f = random.dirichlet(np.ones(n_codes) / 2), random.normal(size=n_codes)
    sets = np.array(list(itertools.combinations(range(n_codes), k))).T
    log_p = tf.constant(np.log(p[sets]))
    weight, signal = without_replacement.unordered(tf.constant(f[sets]), log_p)
    of_set = np.exp(without_replacement.log_set_probabilities(log_p)[0])
    assert np.sum(of_set) == pytest.approx(1, abs=1e-9)
    total = np.zeros(n_codes)
    np.add.at(total, sets, (of_set * weight * signal).numpy())
    # The gradient with respect to log p of normalized codes.
    np.testing.assert_allclose(total - p * np.sum(total), p * (f - p @ f), atol=1e-9)


def test_unord_golden():
    """Mean and variance of the estimate for four binary units, over all pairs of their 16 codes."""
    f, q = GOLDENS["quad_h4/f"], GOLDENS["quad_h4/q"]
    score = GOLDENS["quad_h4/states"] - 1 / (1 + np.exp(-GOLDENS["quad_h4/phi"]))
    sets = np.array(list(itertools.combinations(range(16), 2))).T
    log_p = tf.constant(np.log(q[sets]))
    weight, signal = without_replacement.unordered(tf.constant(f[sets]), log_p)
    g = np.einsum("kn,knd->nd", weight * signal, score[sets])
    of_set = np.exp(without_replacement.log_set_probabilities(log_p)[0])
    mean = of_set @ g
    np.testing.assert_allclose(mean, GOLDENS["quad_h4/exact_grad"], rtol=0, atol=1e-12)
    expected = GOLDENS["quad_h4/var/unord_k2"]
    np.testing.assert_allclose(of_set @ g**2 - mean**2, expected, rtol=1e-6)


def test_codes_are_drawn_without_replacement():
    """Frequencies of the first and second of three codes: 200,000 draws, critical value 6."""
    rows, k = 200_000, 3
    pi = np.random.default_rng(0).dirichlet(np.ones(3), size=2)
    u = noise.uniforms(noise.key(0, "further"), [2, rows, k, 3], tf.float64)
    codes = without_replacement.first_codes(tf.constant(np.tile(pi, [rows, 1, 1])), u).numpy()
    number = codes[..., 0] * 3 + codes[..., 1]
    p = np.outer(pi[0], pi[1]).ravel()
    for first, second in itertools.permutations(range(9), 2):
        expected = p[first] * p[second] / (1 - p[first])
        seen = np.mean((number[:, 0] == first) & (number[:, 1] == second))
        assert abs(seen - expected) < 6 * np.sqrt(expected / rows) + 1e-6
    assert all(len(set(row)) == k for row in number[:1000])
    further = without_replacement.further_codes(
        tf.constant(codes[:, 1]), tf.constant(np.tile(pi, [rows, 1, 1])), u
    )
    np.testing.assert_array_equal(further[:, 0], codes[:, 0])
    np.testing.assert_array_equal(further[:, 1], codes[:, 2])


def test_unord_is_exact_for_all_codes():
    draws = noise.latents(noise.key(0, "latents"), 1, 3, (4,), tf.float64)
    g = estimates(build("UNORD", n_codes=4), Reward([(1, 4)], 3), draws)
    np.testing.assert_allclose(g, np.tile(Reward([(1, 4)]).exact(), [3, 1]), atol=1e-12)


def test_evaluations_of_two_layers():
    shapes = SHAPES["3x5"] + SHAPES["1x4"]
    expected = {"CARMS": 1 + 2 + 2, "DisARM-Tree": 3, "ARSM": 1 + 10 + 6, "UNORD": 1 + 6 + 3}
    for label, count in expected.items():
        options = {"n_codes": 7} if label == "UNORD" else {}
        assert build(label, **options).evaluations(shapes, 2) == 2 * count
