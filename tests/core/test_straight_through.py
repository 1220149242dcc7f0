"""Properties of the straight-through kernels: exactness, moments, range, modes."""

import numpy as np
import pytest
import tensorflow as tf

from rebar.core import categorical, straight_through
from rebar.core.categorical import softmax_product
from rebar.noise import key
from rebar.noise import words as random_words
from tests.core.straight_through_cases import (
    VARIANTS,
    WITH_TEMPERATURE,
    Polynomial,
    expectation,
    exponentials,
    gradient,
    gumbels,
    probabilities,
    samples,
)

SHAPE = (2, 4)
LOGITS = np.array([[0.3, -1.1, 0.8, 0.1], [1.5, -0.4, 0.0, -2.0]])
LINEAR, QUADRATIC = Polynomial(SHAPE, quadratic=False), Polynomial(SHAPE)


def relative(result, exact):
    return np.max(np.abs(result - exact)) / np.max(np.abs(exact))


# Exact in the mean, by enumeration of all codes.


@pytest.mark.parametrize("beta", [-0.2, 0.0, 0.5, 0.8, 1.0])
def test_exact_for_linear_f(beta):
    exact = LINEAR.exact(LOGITS)
    assert relative(expectation(straight_through.straight_through, LINEAR, LOGITS), exact) < 1e-12

    def kernel(*arguments, form="consistent"):
        return straight_through.reinmax_rk2(*arguments, beta, form)

    assert relative(expectation(kernel, LINEAR, LOGITS), exact) < 1e-12
    released = expectation(lambda *arguments: kernel(*arguments, form="released"), LINEAR, LOGITS)
    np.testing.assert_allclose(released, 2 * beta * exact, atol=1e-12)


def test_exact_for_quadratic_f():
    exact = QUADRATIC.exact(LOGITS)
    assert relative(expectation(straight_through.reinmax, QUADRATIC, LOGITS), exact) < 1e-12


@pytest.mark.parametrize("name", ["straight_through", "gapped_straight_through"])
def test_others_are_not(name):
    result = expectation(getattr(straight_through, name), QUADRATIC, LOGITS)
    assert relative(result, QUADRATIC.exact(LOGITS)) > 0.05
    wrong = expectation(
        lambda *arguments: straight_through.reinmax(*arguments, 1.3), QUADRATIC, LOGITS
    )
    assert relative(wrong, QUADRATIC.exact(LOGITS)) > 0.02


def problem(n=6, n_categories=4, scale=2.0, dtype=tf.float64):
    """Random logits, samples, g [n, 3, C], Gumbels and 5 draws of exponentials."""
    random, shape = np.random.default_rng(0), (n, 3, n_categories)
    logits = tf.constant(random.normal(size=shape) * scale, dtype)
    noise = gumbels(*shape, dtype=dtype)
    return (
        logits,
        categorical.hard_sample(logits, noise),
        tf.constant(random.normal(size=shape), dtype),
        noise,
        exponentials(5, *shape, dtype=dtype),
    )


def test_special_cases_of_the_node():
    logits, one_hot, g, *_ = problem()
    for form in ("consistent", "released"):
        half = straight_through.reinmax_rk2(logits, one_hot, g, 0.5, form)
        np.testing.assert_allclose(half, straight_through.reinmax(logits, one_hot, g), atol=1e-14)
    one = straight_through.reinmax_rk2(logits, one_hot, g, 1)
    np.testing.assert_allclose(
        one, straight_through.straight_through(logits, one_hot, g), atol=1e-14
    )


def test_reinmax_at_one_is_the_general_formula():
    logits, one_hot, g, *_ = problem()
    short = straight_through.reinmax(logits, one_hot, g)
    general = straight_through.reinmax(logits, one_hot, g, tf.constant(1, tf.float64))
    np.testing.assert_allclose(short, general, atol=1e-14)
    pi = tf.nn.softmax(logits)
    e = one_hot - pi
    stated = softmax_product(pi, g) / 2 + e * tf.reduce_sum(e * g, -1, keepdims=True) / 2
    np.testing.assert_allclose(short, stated, atol=1e-14)


# Moments, for one latent variable and quadratic f.

ONE = Polynomial((1, 4), seed=1)
N = 100_000


def drawn(logits):
    """N samples of one latent variable: logits, one_hot, g, Gumbels, [N, 1, C] each."""
    noise = gumbels(N, 1, 4, position=2)
    tiled = tf.constant(np.broadcast_to(logits, noise.shape))
    one_hot = categorical.hard_sample(tiled, noise)
    return tiled, one_hot, tf.constant(ONE.gradient(one_hot.numpy())), noise


def largest_deviation(differences):
    """The mean of differences [N, C] in standard errors, the largest of C."""
    return np.max(np.abs(differences.mean(0) / (differences.std(0) / np.sqrt(len(differences)))))


@pytest.mark.parametrize("temperature", [0.5, 1])
def test_rao_has_the_mean_of_straight_through_gumbel(temperature):
    """The difference of both by 5 standard errors: a false alarm in 1.7e6 for each of 4.

    Planted: Gumbels that are not drawn given the sample.
    """
    logits, one_hot, g, noise = drawn(LOGITS[:1])
    plain = straight_through.straight_through_gumbel(logits, one_hot, g, noise, temperature)
    e = exponentials(2, N, 1, 4, position=3)
    rao = straight_through.gumbel_rao(logits, one_hot, g, e, temperature)
    assert largest_deviation((rao - plain).numpy()[:, 0]) < 5
    assert rao.numpy().var(0).sum() < 0.9 * plain.numpy().var(0).sum()
    loose = softmax_product(tf.nn.softmax((logits - tf.math.log(e[0])) / temperature), g)
    assert largest_deviation((loose / temperature - plain).numpy()[:, 0]) > 20


def test_variance_of_rao():
    """Var(GR_K) = Var_D + E Var(. | D) / K, to 3%; planted: draws shared by the K."""
    logits, one_hot, g, _ = drawn(LOGITS[:1])

    def total_variance(draws):
        return straight_through.gumbel_rao(logits, one_hot, g, draws).numpy().var(0).sum()

    # Of single draws, by sample.
    single = straight_through.gumbel_rao(logits, one_hot, g, exponentials(1, N, 1, 4, position=4))
    groups = [single.numpy()[one_hot.numpy()[:, 0, c] == 1, 0] for c in range(4)]
    weights = np.array([len(group) for group in groups]) / N
    within = weights @ [group.var(0).sum() for group in groups]
    means = np.array([group.mean(0) for group in groups])
    between = weights @ np.sum((means - weights @ means) ** 2, -1)
    assert within > 0.3 * between
    for k in (1, 4):
        result = total_variance(exponentials(k, N, 1, 4, position=5))
        np.testing.assert_allclose(result, between + within / k, rtol=0.03)
    shared = tf.repeat(exponentials(1, N, 1, 4, position=5), 4, axis=0)
    assert total_variance(shared) > 1.1 * (between + within / 4)


def test_rao_tends_to_reinmax_as_the_temperature_tends_to_0():
    """Distances of means, integrated over a grid of the noise given each sample."""
    f, logits, n = Polynomial((1, 3)), np.array([[0.5, -0.4, 0.1]]), 300
    codes = samples(f.shape)
    u, v = (np.reshape(w, -1) for w in np.meshgrid(*[(np.arange(n) + 0.5) / n] * 2))
    s = np.sqrt(u)  # (1 - s, s (1 - v), s v) is uniform on the simplex, as E / sum E
    e = np.stack([1 - s, s * (1 - v), s * v], axis=1)[:, None, None]
    arguments = [np.broadcast_to(logits, codes.shape), codes, f.gradient(codes)]
    draws = np.broadcast_to(e, [len(e), *codes.shape])
    tensors = [tf.constant(a) for a in (*arguments, draws)]

    def mean(values):
        return np.einsum("r,rlc->lc", probabilities(logits, codes), values)

    limit = mean(straight_through.reinmax(*tensors[:3]))
    distances = [
        np.linalg.norm(mean(straight_through.gumbel_rao(*tensors, temperature)) - limit)
        for temperature in (1, 0.3, 0.1, 0.03)
    ]
    np.testing.assert_allclose(distances, [0.102, 0.041, 0.013, 0.004], atol=6e-4)
    other = mean(straight_through.reinmax(*tensors[:3], 1.3))
    assert np.linalg.norm(other - limit) > 2 * distances[-1]


@pytest.mark.parametrize("latent", [0, 1])
def test_what_the_control_variate_does(latent):
    """Variances of both forms; a category of logits 1 has seven tenths of the mass."""
    logits, one_hot, g, noise = drawn(LOGITS[latent : latent + 1])
    e, fresh = exponentials(20, N, 1, 4, position=6), gumbels(N, 1, 4, position=7)
    plain = straight_through.reinmax(logits, one_hot, g).numpy()[:, 0]
    stgs = straight_through.reinmax_cv(logits, one_hot, g, e, fresh, scale=0.7, form="stgs")
    released = straight_through.reinmax_cv(logits, one_hot, g, e, noise, scale=0.7)
    stgs, released = stgs.numpy()[:, 0], released.numpy()[:, 0]
    assert largest_deviation(stgs - plain) > 15
    assert largest_deviation(released - plain) > 100
    added = [(values - plain).mean(0) for values in (stgs, released)]
    assert np.linalg.norm(added[0]) < 0.5 * np.linalg.norm(added[1])
    variances = [values.var(0).sum() for values in (plain, stgs, released)]
    assert variances[1] > 1.05 * variances[0]
    assert (variances[2] < 0.95 * variances[0]) == (latent == 0)


# All kernels: range, dtypes, modes.


@pytest.mark.parametrize("n_categories", [2, 3, 64, 1024])
@pytest.mark.parametrize("variant", VARIANTS)
def test_sums_to_zero(variant, n_categories):
    for dtype, least in ((tf.float64, 1e-14), (tf.float32, 1e-5)):
        for temperature in (0.1, 1, 2.5):
            logits, one_hot, g, noise, e = problem(2, n_categories, dtype=dtype)
            result = gradient(variant, logits, one_hot, g, noise, e, temperature)
            assert result.dtype == dtype
            sums = np.abs(np.sum(result, -1))
            assert np.all(sums <= least * (1 + np.max(np.abs(result)))), (dtype, temperature)
            assert np.max(np.abs(result)) > 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_saturated_logits(variant):
    """Logits to 1e4 in size, any sample, also one of probability 0; T from 1e-3 to 1e3."""
    for dtype in (tf.float32, tf.float64):
        for scale in (30, 1e4):
            logits, _, g, noise, e = problem(6, 6, scale, dtype)
            logits = tf.clip_by_value(logits, -1e4, 1e4)
            one_hot = tf.broadcast_to(tf.eye(6, dtype=dtype)[:, None], logits.shape)
            for temperature in (1e-3, 0.5, 1, 2, 1e3):
                result = gradient(variant, logits, one_hot, g, noise, e, temperature).numpy()
                assert np.all(np.isfinite(result)), (dtype, scale, temperature)
                bound = 20 * np.max(np.abs(g)) * max(1, 1 / temperature)
                assert np.max(np.abs(result)) < bound


@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_is_float64(variant):
    for scale in (1, 30):
        low = problem(scale=scale, dtype=tf.float32)
        high = [tf.cast(value, tf.float64) for value in low]
        for temperature in (0.7, 1):
            result, exact = (gradient(variant, *p, temperature).numpy() for p in (low, high))
            # g - <p, g> has the rounding of g.
            atol = 1e-6 * np.max(np.abs(low[2])) / temperature
            np.testing.assert_allclose(result, exact, rtol=1e-4, atol=atol)


def call_at(variant, temperature):
    return lambda *arguments: gradient(variant, *arguments, temperature)


@pytest.mark.parametrize("variant", VARIANTS)
def test_compiled(variant):
    """jit, function and eager; a temperature that is a tensor; a batch of unknown size."""
    arguments = problem()
    tensors = [
        tf.TensorSpec([*([5] if value.shape.rank == 4 else []), None, 3, 4], value.dtype)
        for value in arguments
    ]
    for temperature, options in (
        (0.7, {}),
        (0.7, {"input_signature": tensors}),
        (tf.constant(0.7, tf.float64), {"jit_compile": True}),
    ):
        eager = gradient(variant, *arguments, temperature)
        compiled = tf.function(call_at(variant, temperature), autograph=False, **options)
        np.testing.assert_allclose(compiled(*arguments), eager, rtol=1e-11, atol=1e-13)


def test_chunks_of_a_batch_of_unknown_size():
    logits, one_hot, g, *_ = problem()
    e = exponentials(23, *logits.shape)
    shape = [None, *logits.shape[1:]]
    signature = [tf.TensorSpec(shape, tf.float64)] * 3 + [tf.TensorSpec([23, *shape], tf.float64)]
    compiled = tf.function(straight_through.gumbel_rao, input_signature=signature, autograph=False)
    eager = straight_through.gumbel_rao(logits, one_hot, g, e)
    np.testing.assert_allclose(compiled(logits, one_hot, g, e), eager, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("elements", [72, 2**19])
def test_draws_from_words(count, elements, monkeypatch):
    """Two draws a word, of an odd count the first of the last; in all modes."""
    monkeypatch.setattr(straight_through, "_CHUNK_ELEMENTS", elements)
    logits, one_hot, g, *_ = problem(dtype=tf.float32)
    words = random_words(key(3, "analysis", 8), [(count + 1) // 2, *logits.shape])
    high, low = categorical.halves(words, tf.float32)
    e = categorical.exponentials(tf.concat([high, low[: count // 2]], axis=0))
    expected = straight_through.reinmax_rao(logits, one_hot, g, e, 0.7)

    def call(words):
        draws = straight_through.FromWords(words, count)
        return straight_through.reinmax_rao(logits, one_hot, g, draws, 0.7)

    for compiled in (call, tf.function(call), tf.function(call, jit_compile=True)):
        np.testing.assert_allclose(compiled(words), expected, atol=2e-6)


def test_the_temperature_changes_no_sample():
    logits, one_hot, _, noise, e = problem(n=200)
    for temperature in (1e-3, 0.5, 1, 1e3):
        for kernel, noises in WITH_TEMPERATURE.items():
            z = straight_through.differentiable_sample(
                getattr(straight_through, kernel),
                logits,
                noise,
                *({"gumbels": noise, "exponentials": e}[n] for n in noises),
                temperature=temperature,
            )
            np.testing.assert_array_equal(z, one_hot)
