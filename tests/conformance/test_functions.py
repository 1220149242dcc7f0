"""The functional interface: every method, layer and option computes its formula.

Formulas are evaluated in NumPy with f of known derivative; derivatives along noise are central
differences. A new method, layer or option without a value in OPTIONS fails.
"""

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise
from rebar.functional import bernoulli, categorical
from rebar.functional.straight_through import LAYERS
from tests.conformance.literal import kernels

OPTIONS = {
    "temperature": 0.37,
    "muprop_relaxation": (True, False),
    "scale": -0.6,
    "n_samples": 3,
    "v": "uniforms",
    "differentiable": True,
    "network": "network",
    "draws": 5,
    "draws_noise": None,
    "fresh_noise": None,
    "gap": 1.7,
    "beta": 0.8,
    "form": {
        "reinmax_cv": ("released", "stgs"),
        "reinmax_rk2": ("consistent", "released"),
    },
}
"""Unusual values of options. Noise is that of a seed, except in one test."""

B, L, C, H = 3, 2, 4, 3
RANDOM = np.random.default_rng(0)
CATEGORICAL = RANDOM.normal(size=[B, L, C])
BINARY = RANDOM.normal(size=[B, H])
MATRICES = {width: RANDOM.normal(size=[width, width]) for width in (H, L * C)}
SEED, STEP = (3, 1), 7


def f(z):
    """z' A z + sum of cubes, [B]: a tensor or an array."""
    module = np if isinstance(z, np.ndarray) else tf
    flat = module.reshape(z, [z.shape[0], -1])
    matrix = MATRICES[flat.shape[1]]
    product = module.matmul(flat, tf.constant(matrix, flat.dtype) if module is tf else matrix)
    total = np.sum if module is np else tf.reduce_sum
    return total(product * flat, axis=1) + total(flat**3, axis=1)


def derivative_of_f(z):
    flat = z.reshape(len(z), -1)
    matrix = MATRICES[flat.shape[1]]
    return (flat @ (matrix + matrix.T) + 3 * flat**2).reshape(z.shape)


def uniforms(shape, *purpose):
    """Uniforms of a call: stream "latents", the purpose 1 or 2 of further noise, and the step."""
    return noise.uniforms(
        noise.fold_in(noise.key(SEED, "latents", *purpose), STEP), shape, "float64"
    ).numpy()


def gumbels(u):
    return -np.log(-np.log(u))


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def logit(u):
    return np.log(u) - np.log(1 - u)


def network(z):
    """Control variate of relax, a tensor or an array."""
    module = np if isinstance(z, np.ndarray) else tf
    return (np.sum if module is np else tf.reduce_sum)(module.sin(z), axis=1)


def slope(function, a, h=1e-5):
    """Derivative w.r.t. a [B, H] of function(a) [B], whose rows are independent."""
    result = np.zeros(a.shape)
    for i in range(a.shape[1]):
        shift = h * np.eye(a.shape[1])[i]
        result[:, i] = (function(a + shift) - function(a - shift)) / (2 * h)
    return result


def combinations(method, defaults):
    """Options of a method with unusual values."""
    fixed = {}
    varied = [{}]
    for option in defaults:
        value = OPTIONS[option]
        if isinstance(value, dict):
            varied = [v | {option: form} for v in varied for form in value[method]]
        elif isinstance(value, tuple):
            varied = [v | {option: choice} for v in varied for choice in value]
        elif option == "v":
            varied = [v | {option: w} for v in varied for w in (None, uniforms([B, H], 9))]
        elif option == "network":
            fixed[option] = network
        elif value is not None:
            fixed[option] = value
    return [fixed | v for v in varied]


def cases(methods):
    return [
        pytest.param(method, options, id=f"{method}-{i}")
        for method in methods
        for i, options in enumerate(combinations(method, methods[method].defaults))
    ]


def binary_formula(
    method,
    n_samples=1,
    temperature=None,
    muprop_relaxation=None,
    scale=None,
    v=None,
    network=None,
    differentiable=None,
):
    """Gradient [B, H], value [B] and evaluations."""
    a, p = BINARY, sigmoid(BINARY)
    several = [n_samples] if method == "loo" else []
    u = uniforms([*several, B, H])
    b = (u > 1 - p) * 1.0
    if method == "reinforce":
        return f(b)[:, None] * (b - p), f(b), 1
    if method == "loo":
        values = np.stack([f(row) for row in b])
        others = [np.delete(values, k, axis=0).mean(axis=0) for k in range(n_samples)]
        terms = [(values[k] - others[k])[:, None] * (b[k] - p) for k in range(n_samples)]
        return np.mean(terms, axis=0), values.mean(axis=0), n_samples
    if method in ("arm", "disarm"):
        other = (u < p) * 1.0
        difference = (f(b) - f(other))[:, None]
        factor = u - 1 / 2
        if method == "disarm":
            factor = (-1.0) ** other * (b != other) * sigmoid(np.abs(a)) / 2
        return difference * factor, (f(b) + f(other)) / 2, 2

    def relaxed(logits, zeta):
        correction = logits * temperature / (temperature + 1) if muprop_relaxation else 0
        return sigmoid((logits + zeta) / temperature + correction)

    if method == "gumbel":
        return slope(lambda k: f(relaxed(k, logit(u))), a), f(b), 2

    def c(logits, zeta):
        r = network(logits + zeta) if network else 0
        return scale * (f(relaxed(logits, zeta)) + r)

    w = np.where(b == 1, (u - 1 + p) / p, u / (1 - p)) if v is None else v

    def given_b(logits):
        low = 1 - sigmoid(logits)
        return logit(np.where(b == 1, low + (1 - low) * w, low * w))

    gradient = (f(b) - c(a, given_b(a)))[:, None] * (b - p)
    gradient += slope(lambda k: c(k, logit(u)), a) - slope(lambda k: c(k, given_b(k)), a)
    return gradient, f(b), 2 if v is None else 3


@pytest.mark.parametrize(("method", "options"), cases(bernoulli.METHODS))
def test_a_method_for_binary_logits_is_its_formula(method, options):
    estimate = rebar.estimate_gradient(method, f, BINARY, seed=SEED, step=STEP, **options)
    gradient, value, evaluations = binary_formula(method, **options)
    np.testing.assert_allclose(estimate.gradient, gradient, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(estimate.value, value, rtol=1e-10)
    assert estimate.evaluations == evaluations
    # The evaluations are those made.
    rows = []
    rebar.estimate_gradient(
        method, lambda b: rows.append(1) or f(b), BINARY, seed=0, step=0, **options
    )
    assert len(rows) == evaluations


def surrogate(method, logits, g, draws=None, **options):
    """z and s [..., C] of a layer, for noise of the seed and a derivative g(z) of f."""
    u = uniforms(logits.shape)
    z = np.eye(C)[np.argmax(logits + gumbels(u), axis=-1)]
    draws_of = {"gumbels": gumbels(u), "fresh": gumbels(uniforms(logits.shape, 2))}
    if draws:
        draws_of["exponentials"] = -np.log(uniforms([draws, *logits.shape], 1))
    kernel = kernels.KERNELS[method]
    return z, kernels.every(kernel, logits, z, g(z), **draws_of, **options)


@pytest.mark.parametrize(("method", "options"), cases(categorical.METHODS))
def test_a_method_for_categorical_logits_is_its_formula(method, options):
    pi = np.apply_along_axis(kernels.softmax, -1, CATEGORICAL)
    if method == "exact":
        gradient, value, evaluations = 0, 0, C**L
        for code in np.ndindex(*[C] * L):
            z = np.tile(np.eye(C)[list(code)], [B, 1, 1])
            q = np.prod(np.sum(pi * z, axis=-1), axis=-1)
            value = value + q * f(z)
            gradient = gradient + (q * f(z))[:, None, None] * (z - pi)
    elif method in LAYERS:
        z, gradient = surrogate(method, CATEGORICAL, derivative_of_f, **options)
        value, evaluations = f(z), 1
    else:
        evaluations = options.get("n_samples", 1)
        u = uniforms([*[evaluations] * (method == "loo"), B, L, C]).reshape(-1, B, L, C)
        z = np.eye(C)[np.argmax(CATEGORICAL + gumbels(u), axis=-1)]
        values = np.stack([f(sample) for sample in z])
        value = values.mean(axis=0)
        others = [np.delete(values, k, axis=0) for k in range(evaluations)]
        signal = values - [o.mean(axis=0) if len(o) else np.zeros(B) for o in others]
        gradient = np.mean(signal[..., None, None] * (z - pi), axis=0)
    estimate = rebar.estimate_gradient(
        method, f, CATEGORICAL, family="categorical", seed=SEED, step=STEP, **options
    )
    np.testing.assert_allclose(estimate.gradient, gradient, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(estimate.value, value, rtol=1e-10)
    assert estimate.evaluations == evaluations
    rows = []

    def counted(z):
        tf.py_function(lambda: rows.append(1), [], [])
        return f(z)

    rebar.estimate_gradient(
        method, counted, CATEGORICAL, family="categorical", seed=0, step=0, **options
    )
    assert len(rows) == evaluations


LAYER_CASES = cases({name: categorical.METHODS[name] for name in LAYERS})


@pytest.mark.parametrize("kind", ["function", "keras"])
@pytest.mark.parametrize(("method", "options"), LAYER_CASES)
def test_a_layer_has_the_gradient_of_its_formula(method, options, kind):
    logits, weights = tf.constant(CATEGORICAL), tf.constant(RANDOM.normal(size=CATEGORICAL.shape))
    if kind == "keras":
        layer = rebar.keras.StraightThrough(method, seed=SEED, options=options, dtype="float64")
        layer.calls.assign(STEP)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        if kind == "keras":
            z = layer(logits, training=True)
        else:
            z = getattr(rebar.straight_through, method)(logits, seed=SEED, step=STEP, **options).z
        loss = tf.reduce_sum(z * weights)
    sample, expected = surrogate(method, CATEGORICAL, lambda _: weights.numpy(), **options)
    np.testing.assert_array_equal(z, sample)
    np.testing.assert_allclose(tape.gradient(loss, logits), expected, rtol=1e-9, atol=1e-11)
    if kind == "keras":
        assert layer.calls == STEP + 1


@pytest.mark.parametrize("draws", [4, 5])
@pytest.mark.parametrize(
    "method", [m for m in LAYERS if "draws" in categorical.METHODS[m].defaults]
)
def test_draws_in_float32_are_halves_of_words(method, draws):
    logits, weights = CATEGORICAL.astype(np.float32), RANDOM.normal(size=CATEGORICAL.shape)
    key = noise.fold_in(noise.key(SEED, "latents", 1), STEP)
    bits = noise.words(key, [(draws + 1) // 2, *logits.shape]).numpy()
    bits = np.concatenate([bits >> 16, bits[: draws // 2] & 0xFFFF])
    u = noise.uniforms(noise.fold_in(noise.key(SEED, "latents"), STEP), logits.shape).numpy()
    z = np.eye(C)[np.argmax(logits + gumbels(u), axis=-1)]
    options = {"temperature": 0.37}
    if method == "reinmax_cv":
        options |= {"scale": -0.6, "form": "released"}
    expected = kernels.every(
        kernels.KERNELS[method],
        *(CATEGORICAL, z, weights, -np.log((bits + 0.5) / 2**16), gumbels(u)),
        **options,
    )
    tensor = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        layer = getattr(rebar.straight_through, method)
        z = layer(tensor, seed=SEED, step=STEP, draws=draws, **options).z
        loss = tf.reduce_sum(z * tf.constant(weights, tf.float32))
    np.testing.assert_allclose(tape.gradient(loss, tensor), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("method", "options"), LAYER_CASES)
def test_a_layer_takes_the_noise_that_it_is_given(method, options):
    """Uniforms of the sample, of the draws given it, and of fresh noise, each in its place."""
    given = {"noise": uniforms(CATEGORICAL.shape)}
    if "draws" in options:
        given["draws_noise"] = uniforms([options["draws"], *CATEGORICAL.shape], 1)
    if options.get("form") == "stgs":
        given["fresh_noise"] = uniforms(CATEGORICAL.shape, 2)
    logits = tf.constant(CATEGORICAL)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(
            getattr(rebar.straight_through, method)(logits, **given, **options).z ** 2
        )
    _, expected = surrogate(method, CATEGORICAL, lambda z: 2 * z, **options)
    np.testing.assert_allclose(tape.gradient(loss, logits), expected, rtol=1e-9, atol=1e-11)
