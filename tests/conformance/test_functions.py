"""The functional interface: every method, layer and option computes its formula.

Formulas are evaluated in NumPy with f of known derivative; derivatives along noise are central
differences. A new method, layer or option without a value in OPTIONS fails.
"""

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise
from rebar.functional import methods
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
    "relaxed_f": (True, False),
    "baseline": 0.4,
    "draws": 5,
    "draws_noise": None,
    "fresh_noise": None,
    "gap": 1.7,
    "forward_temperature": 0.6,
    "backward_temperature": 1.7,
    "beta": 0.8,
    "form": {"reinmax_cv": ("released", "stgs"), "reinmax_rk2": ("consistent", "released")},
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
    """Derivative w.r.t. a [B, ...] of function(a) [B], whose rows are independent."""
    result = np.zeros(a.shape)
    for i in np.ndindex(a.shape[1:]):
        shift = np.zeros(a.shape)
        shift[(slice(None), *i)] = h
        result[(slice(None), *i)] = (function(a + shift) - function(a - shift)) / (2 * h)
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
            varied = [v | {option: w} for v in varied for w in (None, "uniforms")]
        elif option == "network":
            fixed[option] = network
        elif value is not None:
            fixed[option] = value
    return [fixed | v for v in varied]


def cases(names, family):
    return [
        pytest.param(method, options, id=f"{method}-{i}")
        for method in names
        for i, options in enumerate(combinations(method, methods.of(family)[method].defaults))
    ]


def softmax(a):
    return np.apply_along_axis(kernels.softmax, -1, a)


def column(values, a):
    """[B] against [B, ...]."""
    return values.reshape(-1, *[1] * (a.ndim - 1))


def hard(a, u):
    """Samples [..., *shape of a]."""
    if a.ndim == 2:
        return (u > 1 - sigmoid(a)) * 1.0
    return np.eye(C)[np.argmax(a + gumbels(u), axis=-1)]


def score(a, b):
    return b - (sigmoid(a) if a.ndim == 2 else softmax(a))


def conditional_noise(a, b, u, v):
    """Noise given b, a function of the logits with the uniforms v; by default those of the u."""
    if a.ndim == 2:
        p = sigmoid(a)
        w = np.where(b == 1, (u - 1 + p) / p, u / (1 - p)) if v is None else v

        def given_b(logits):
            low = 1 - sigmoid(logits)
            return logit(np.where(b == 1, low + (1 - low) * w, low * w))

        return given_b
    if v is None:
        inverse = -np.log(u) * np.exp(-a)  # exp(-c)
        top = np.sum(b * inverse, axis=-1, keepdims=True)
        total = np.sum(np.exp(a), axis=-1, keepdims=True)
        e = np.where(b == 1, top * total, np.exp(a) * (inverse - top))
    else:
        e = -np.log(v)

    def given_b(logits):
        top = np.sum(b * e, axis=-1, keepdims=True)
        top = top / np.sum(np.exp(logits), axis=-1, keepdims=True)
        return -np.log(np.where(b == 1, top, e / np.exp(logits) + top)) - logits

    return given_b


def formula(
    method,
    a,
    n_samples=1,
    temperature=None,
    muprop_relaxation=None,
    scale=None,
    v=None,
    network=None,
    relaxed_f=True,
    baseline=0,
    differentiable=None,
):
    """Gradient, value [B] and evaluations for logits a, [B, H] or [B, L, C]."""
    if method == "exact":
        gradient = value = 0
        states = [*np.ndindex(*([2] * H if a.ndim == 2 else [C] * L))]
        for state in states:
            b = np.array(state) * 1.0 if a.ndim == 2 else np.eye(C)[list(state)]
            b = np.broadcast_to(b, a.shape)
            p = np.abs(1 - b - sigmoid(a)) if a.ndim == 2 else np.sum(softmax(a) * b, axis=-1)
            weighted = np.prod(p, axis=1) * f(b)
            value, gradient = value + weighted, gradient + column(weighted, a) * score(a, b)
        return gradient, value, len(states)
    u = uniforms([*[n_samples] * (method == "loo"), *a.shape])
    b = hard(a, u)
    if method == "reinforce":
        return column(f(b) - baseline, a) * score(a, b), f(b), 1
    if method == "loo":
        values = np.stack([f(row) for row in b])
        others = [np.delete(values, k, axis=0).mean(axis=0) for k in range(n_samples)]
        terms = [column(values[k] - others[k], a) * score(a, b[k]) for k in range(n_samples)]
        return np.mean(terms, axis=0), values.mean(axis=0), n_samples
    if method in ("arm", "disarm"):
        other = (u < sigmoid(a)) * 1.0
        difference = (f(b) - f(other))[:, None]
        factor = u - 1 / 2
        if method == "disarm":
            factor = (-1.0) ** other * (b != other) * sigmoid(np.abs(a)) / 2
        return difference * factor, (f(b) + f(other)) / 2, 2
    noise_of = logit if a.ndim == 2 else gumbels

    def relaxed(logits, z):
        correction = logits * temperature / (temperature + 1) if muprop_relaxation else 0
        return (sigmoid if a.ndim == 2 else softmax)((logits + z) / temperature + correction)

    if method == "gumbel":
        return slope(lambda k: f(relaxed(k, noise_of(u))), a), f(b), 2

    def c(logits, z):
        value = f(relaxed(logits, z)) if relaxed_f else 0
        if network:
            normalized = logits if a.ndim == 2 else np.log(softmax(logits))
            value = value + network((normalized + z).reshape(B, -1))
        return scale * value

    given_b = conditional_noise(a, b, u, v)
    gradient = column(f(b) - c(a, given_b(a)), a) * score(a, b)
    gradient += slope(lambda k: c(k, noise_of(u)), a) - slope(lambda k: c(k, given_b(k)), a)
    return gradient, f(b), 1 + relaxed_f * (1 if v is None else 2)


GENERIC = {
    family: [name for name in methods.of(family) if name not in LAYERS]
    for family in ("bernoulli", "categorical")
}


def check_formula(method, logits, options):
    family = "bernoulli" if logits is BINARY else "categorical"
    if options.get("v") is not None:
        options = options | {"v": uniforms(logits.shape, 9)}
    if method in LAYERS:
        b, gradient = surrogate(method, logits, derivative_of_f, **options)
        value, evaluations = f(b), 1
    else:
        gradient, value, evaluations = formula(method, logits, **options)
    seeds = {} if method == "exact" else {"seed": SEED, "step": STEP}
    estimate = rebar.estimate_gradient(method, f, logits, family=family, **seeds, **options)
    rtol, atol = (1e-9, 1e-11) if method in LAYERS else (1e-6, 1e-8)
    np.testing.assert_allclose(estimate.gradient, gradient, rtol=rtol, atol=atol)
    np.testing.assert_allclose(estimate.value, value, rtol=1e-10)
    assert estimate.evaluations == evaluations
    # The evaluations are those made.
    rows = []

    def counted(b):
        tf.py_function(lambda: rows.append(1), [], [])
        return f(b)

    rebar.estimate_gradient(method, counted, logits, family=family, **seeds, **options)
    assert len(rows) == evaluations


@pytest.mark.parametrize(("method", "options"), cases(GENERIC["bernoulli"], "bernoulli"))
def test_a_method_for_binary_logits_is_its_formula(method, options):
    check_formula(method, BINARY, options)


@pytest.mark.parametrize(("method", "options"), cases(methods.of("categorical"), "categorical"))
def test_a_method_for_categorical_logits_is_its_formula(method, options):
    check_formula(method, CATEGORICAL, options)


def surrogate(method, logits, g, draws=None, **options):
    """z and s [..., C] of a layer, for noise of the seed and a derivative g(z) of f."""
    u = uniforms(logits.shape)
    of_samples = logits / options.get("forward_temperature", 1)
    z = np.eye(C)[np.argmax(of_samples + gumbels(u), axis=-1)]
    draws_of = {"gumbels": gumbels(u), "fresh": gumbels(uniforms(logits.shape, 2))}
    if draws:
        draws_of["exponentials"] = -np.log(uniforms([draws, *logits.shape], 1))
    kernel = kernels.KERNELS[method]
    return z, kernels.every(kernel, logits, z, g(z), **draws_of, **options)


LAYER_CASES = cases(LAYERS, "categorical")


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
@pytest.mark.parametrize("method", [m for m in LAYERS if "draws" in methods.METHODS[m].defaults])
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
