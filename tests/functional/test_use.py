"""How `rebar.estimate_gradient` is used: noise, tapes, compiled code, learning."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise
from rebar.functional import methods
from tests.functional import problems

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(5, 3)) * 2
CATEGORICAL = RANDOM.normal(size=(5, 2, 2, 3)) * 2
SETS = {"loo": 2, "double_cv": 2, "arms": 3}
CASES = sorted(methods.of("bernoulli").keys() - {"exact"}) + [
    f"categorical {name}" for name in ("double_cv", "gumbel", "loo", "rebar", "reinforce", "relax")
]
"""Methods that draw noise, for binary logits unless stated. Tests of straight-through layers are in
test_straight_through.py."""


def f(b):
    """A smooth function of units [B, H] or of variables [B, V, C]: [B]."""
    b = tf.reshape(b, [tf.shape(b)[0], -1])
    return tf.reduce_sum((b - 0.3) ** 2 + tf.sin(tf.cumsum(b, axis=1)), axis=1)


def split(case):
    """Method, logits and options of a case."""
    *family, method = case.split()
    options = {"family": family[0]} if family else {}
    return method, CATEGORICAL if family else LOGITS, options


def estimate(case, function=f, logits=None, **options):
    """An estimate by a case of CASES, with a network for relax."""
    method, default, more = split(case)
    logits = default if logits is None else logits
    options = more | options
    if "network" not in options:
        options |= settings(case, logits.dtype)
    if "noise" not in options:
        options = {"seed": 0, "step": 0} | options
    return rebar.estimate_gradient(method, function, logits, **options)


def settings(case, dtype="float64"):
    method, logits, _ = split(case)
    if method != "relax":
        return {}
    dtype = tf.as_dtype(dtype).name
    return {"network": rebar.FreeForm(logits[0].size, dtype=dtype)}


def uniforms(case, shape=None, seed=0):
    method, logits, _ = split(case)
    sets = [SETS[method]] if method in SETS else []
    return np.random.default_rng(seed).random([*sets, *(shape or logits.shape)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_a_graph_computes_the_same(case, dtype):
    """With noise from a seed and a step, which is a tensor in the graph.

    test_run_time_values.py compares with XLA.
    """
    logits = tf.constant(split(case)[1], dtype)
    options = settings(case, dtype)

    def compute(logits, step):
        result = estimate(case, f, logits, seed=3, step=step, **options)
        return result.gradient, result.value, result.samples

    eager = compute(logits, 7)
    graph = tf.function(compute, autograph=False)(logits, tf.constant(7))
    rtol = 1e-5 if dtype == "float32" else 1e-12
    for a, b in zip(eager, graph, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    assert eager[0].shape == logits.shape
    assert eager[1].shape == (5,)
    assert np.any(eager[0] != compute(logits, 8)[0])


def test_noise_depends_on_seed_and_step_alone():
    def gradient(**of_noise):
        return rebar.estimate_gradient("reinforce", f, LOGITS, **of_noise).gradient.numpy()

    key = noise.fold_in(noise.key(3, "latents"), 7)
    direct = noise.uniforms(key, [1, *LOGITS.shape], tf.float64)[0]
    np.testing.assert_array_equal(gradient(seed=3, step=7), gradient(noise=direct))
    np.testing.assert_array_equal(gradient(seed=3, step=np.int64(7)), gradient(noise=direct))
    assert np.any(gradient(seed=4, step=7) != gradient(noise=direct))


@pytest.mark.parametrize("method", ["loo", "relax"])
def test_a_compiled_loop_counts_its_steps(method):
    """With noise of the samples, and with additional noise."""
    options = settings(method)

    @tf.function(jit_compile=True, autograph=False)
    def total():
        def body(i, total):
            g = rebar.estimate_gradient(method, f, LOGITS, seed=0, step=i, **options).gradient
            return i + 1, total + g

        return tf.while_loop(
            lambda i, _: i < 4, body, (tf.constant(0), tf.zeros(LOGITS.shape, tf.float64))
        )[1]

    one_by_one = [
        rebar.estimate_gradient(method, f, LOGITS, seed=0, step=i, **options).gradient
        for i in range(4)
    ]
    np.testing.assert_allclose(total(), np.sum(one_by_one, axis=0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", [case for case in CASES if " " not in case])
def test_logits_without_a_batch(method):
    u, options = uniforms(method, (3,)), settings(method)
    single = rebar.estimate_gradient(method, f, LOGITS[0], noise=u, **options)
    batch = rebar.estimate_gradient(method, f, LOGITS[:1], noise=np.expand_dims(u, -2), **options)
    assert single.gradient.shape == (3,)
    assert single.value.shape == ()
    np.testing.assert_array_equal(single.gradient, batch.gradient[0])
    np.testing.assert_array_equal(single.value, batch.value[0])
    np.testing.assert_array_equal(single.samples, tf.squeeze(batch.samples, axis=-2))


@pytest.mark.parametrize("case", CASES)
def test_rows_do_not_see_each_other(case):
    method, logits, _ = split(case)
    u = uniforms(case)
    all_rows = estimate(case, noise=u).gradient
    part = u[:, 2:3] if method in SETS else u[2:3]
    one_row = estimate(case, logits=logits[2:3], noise=part).gradient
    np.testing.assert_allclose(all_rows[2:3], one_row, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_unknown_size(case):
    logits, options = split(case)[1], settings(case)
    signature = [tf.TensorSpec([None, *logits.shape[1:]], tf.float64)]

    @tf.function(input_signature=signature, autograph=False)
    def gradient(logits):
        return estimate(case, f, logits, **options).gradient

    np.testing.assert_allclose(gradient(logits), estimate(case).gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_evaluations_are_counted(case):
    method, logits, _ = split(case)
    calls = []

    def counted(b):
        calls.append(b)
        return f(b)

    for options in [{}, {"v": uniforms(case)}] if method in ("rebar", "relax") else [{}]:
        calls.clear()
        result = estimate(case, counted, **options)
        assert result.evaluations == len(calls)
        assert all(b.shape == logits.shape for b in calls)
    assert estimate("loo", n_samples=5).evaluations == 5
    assert result.unbiased == (method != "gumbel")


@pytest.mark.parametrize("case", CASES)
def test_the_value_is_the_mean_over_all_hard_samples(case):
    seen = []

    def watched(b):
        seen.append((np.asarray(b), np.asarray(f(b))))
        return f(b)

    result = estimate(case, watched)
    samples, values = zip(*((b, v) for b, v in seen if np.all((b == 0) | (b == 1))), strict=True)
    method = split(case)[0]
    assert len(values) == {**SETS, "arm": 2, "disarm": 2, "leg": 1 + 3}.get(method, 1)
    if method == "leg":  # the others have one unit flipped each
        samples, values = samples[:1], values[:1]
    np.testing.assert_allclose(result.value, np.mean(values, axis=0), rtol=1e-14)
    assert len(values) == 1 or np.any(values[0] != values[1])
    np.testing.assert_array_equal(result.samples, samples if len(values) > 1 else samples[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_saturated_logits_give_finite_numbers(case, dtype):
    """Noise at its extremes, too; and what learning differentiates."""
    method, _, family = split(case)
    values = [-100, -30, -10, 0, 10, 30, 100]
    u = np.array([2.0**-24, 0.3, 1 - 2.0**-24])
    logits = tf.constant(np.repeat(values, 3)[:, np.newaxis], dtype)
    draws = tf.constant(np.tile(u, 7)[:, np.newaxis], dtype)
    sets = tf.stack([draws, draws[::-1], draws][: SETS[method]]) if method in SETS else draws
    learned = method in ("rebar", "relax")
    if family:
        logits, sets = (tf.stack([a, -a], axis=-1) for a in (logits, sets))
        sets, draws = tf.abs(sets), tf.stack([draws, draws[::-1]], axis=-1)
    network = {"network": rebar.FreeForm(1 + len(family), dtype=dtype)} if method == "relax" else {}
    for v in (None, draws, draws[::-1]) if learned else (None,):
        temperature = tf.Variable(0.1, dtype=dtype)
        options = {"v": v, "differentiable": True, "temperature": temperature} if learned else {}
        with tf.GradientTape() as tape:
            estimate = rebar.estimate_gradient(
                method,
                lambda b: tf.reduce_sum((b - 0.3) ** 2, axis=list(range(1, b.shape.rank))),
                logits,
                noise=sets,
                **family,
                **options,
                **network,
            )
            squares = tf.reduce_sum(estimate.gradient**2)
        assert np.all(np.isfinite(estimate.gradient))
        assert np.all(np.isfinite(estimate.value))
        if learned:
            assert np.isfinite(tape.gradient(squares, temperature))


# Tapes.


def test_training_an_encoder_and_a_decoder():
    """By the recipe of the documentation; against chain rule by hand."""
    x = tf.constant(RANDOM.normal(size=(5, 4)))
    weights = tf.Variable(RANDOM.normal(size=(4, 3)))
    means = tf.Variable(RANDOM.normal(size=(3,)))
    with tf.GradientTape() as tape:
        logits = x @ weights
        estimate = rebar.estimate_gradient(
            "disarm", lambda b: -tf.reduce_sum((b - means) ** 2, 1), logits, seed=0, step=0
        )
    by_weights, by_means = tape.gradient(
        [logits, estimate.value],
        [weights, means],
        output_gradients=[-estimate.gradient / 5, -tf.ones(5, tf.float64) / 5],
    )
    expected = -tf.matmul(x, estimate.gradient, transpose_a=True) / 5
    np.testing.assert_allclose(by_weights, expected, rtol=1e-12)
    # The pair's mean: b - means, averaged over both members and the rows.
    result = rebar.estimate_gradient("disarm", lambda b: b[:, 0], logits, seed=0, step=0)
    by_hand = -2 * (np.mean(result.value) - means[0])
    np.testing.assert_allclose(by_means[0], by_hand, rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_a_constant(case):
    method, logits, _ = split(case)
    logits, options = tf.Variable(logits), {}
    if "temperature" in methods.METHODS[method].defaults:
        options["temperature"] = tf.Variable(0.5, dtype=tf.float64)
    factor = tf.Variable(2.0, dtype=tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        result = estimate(case, lambda b: factor * f(b), logits, **options)
    own = [logits, factor, options.get("temperature", logits)]
    assert tape.gradient(result.gradient, own) == [None] * 3
    assert tape.gradient(result.value, logits) is None
    np.testing.assert_allclose(
        tape.gradient(result.value, factor), tf.reduce_sum(result.value) / 2, rtol=1e-12
    )


@pytest.mark.parametrize("case", CASES)
def test_what_f_does_with_the_logits_is_no_part_of_the_gradient(case):
    logits = tf.constant(split(case)[1])
    probabilities = tf.sigmoid(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)

        def with_logits(b):
            zero = tf.sigmoid(logits) - probabilities
            return f(b) + tf.reduce_sum(b * zero, axis=list(range(1, b.shape.rank)))

        ours, plain = (estimate(case, g, logits) for g in (with_logits, f))
    np.testing.assert_allclose(ours.gradient, plain.gradient, rtol=1e-12, atol=1e-14)
    assert np.any(tape.gradient(ours.value, logits) != 0)


@pytest.mark.parametrize("own_v", [False, True])
@pytest.mark.parametrize("case", ["rebar", "relax", "categorical relax"])
def test_learning_descends_the_squares(case, own_v):
    """Gradients by temperature, scale, network, and a part of f, against central differences."""
    method, logits, _ = split(case)
    network = rebar.FreeForm(logits[0].size, dtype="float64")
    network.weights_out.assign(RANDOM.normal(size=10))
    log_temperature = tf.Variable(-0.4, dtype=tf.float64)
    scale = tf.Variable(0.8, dtype=tf.float64)
    target = tf.Variable(0.3, dtype=tf.float64)
    learned = [log_temperature, scale, target]
    if method == "relax":
        learned += network.trainable_variables
    u, v = uniforms(case), uniforms(case, seed=1) if own_v else None

    def squares(differentiable=False):
        result = estimate(
            case,
            lambda b: f(b) * target,
            noise=u,
            v=v,
            temperature=tf.exp(log_temperature),
            scale=scale,
            differentiable=differentiable,
            **({"network": network} if method == "relax" else {}),
        )
        return tf.reduce_mean(result.gradient**2)

    with tf.GradientTape() as tape:
        value = squares(differentiable=True)
    gradients = tape.gradient(value, learned)
    for variable, gradient in zip(learned, gradients, strict=True):
        start, step = variable.numpy(), 1e-5
        direction = np.random.default_rng(3).normal(size=start.shape)
        sides = []
        for sign in (1, -1):
            variable.assign(start + sign * step * direction)
            sides.append(float(squares()))
        variable.assign(start)
        slope = (sides[0] - sides[1]) / (2 * step)
        assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-6, abs=1e-9)
        assert slope != 0


def test_a_network_of_keras_layers_and_a_custom_one():
    dense = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    for network in (lambda z: dense(z)[:, 0], lambda z: tf.reduce_sum(tf.sin(z), axis=1)):
        logits = tf.constant(LOGITS, tf.float32)
        relax = rebar.estimate_gradient("relax", f, logits, seed=0, step=0, network=network)
        rebar_ = rebar.estimate_gradient(
            "rebar", f, logits, seed=0, step=0, muprop_relaxation=False
        )
        assert np.max(np.abs(relax.gradient - rebar_.gradient)) > 0.01


def test_values_may_be_integers_or_booleans():
    for function in (lambda b: tf.cast(f(b), tf.int32), lambda b: f(b) > 1, problems.table(3)):
        estimate = rebar.estimate_gradient("arm", function, LOGITS, seed=0, step=0)
        assert estimate.gradient.dtype == estimate.value.dtype == tf.float64
