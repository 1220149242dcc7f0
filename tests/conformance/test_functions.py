"""The functional interface: every method, layer and option computes its formula.

Formulas are those of `literal.functions`. A new method, layer or option without a value in OPTIONS
fails.
"""

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar import noise
from rebar.functional import methods
from rebar.functional.straight_through import LAYERS
from tests.conformance.literal import categorical, kernels
from tests.conformance.literal.functions import (
    BINARY,
    CATEGORICAL,
    RANDOM,
    SEED,
    STEP,
    C,
    derivative_of_f,
    f,
    formula,
    gumbels,
    network,
    uniforms,
)

OPTIONS = {
    "temperature": 0.37,
    "muprop_relaxation": (True, False),
    "scale": -0.6,
    "n_samples": 3,
    "n_antithetic": 4,
    "n_codes": 4,
    "n_exact": 2,
    "v": "uniforms",
    "differentiable": True,
    "network": "network",
    "relaxed_f": (True, False),
    "baseline": 0.4,
    "draws": 5,
    "draws_noise": None,
    "fresh_noise": None,
    "gap": 1.7,
    "steps": (2, 3, 6),
    "end": 0.4,
    "forward_temperature": 0.6,
    "backward_temperature": 1.7,
    "beta": 0.8,
    "form": {"reinmax_cv": ("released", "stgs"), "reinmax_rk2": ("consistent", "released")},
}
"""Unusual values of options. Noise is that of a seed, except in one test."""


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
    if method in ("redge", "reindge"):
        normals = tf.math.ndtri(uniforms(logits.shape, 2))
        z, s = categorical.surrogate_of_diffusion(
            *(logits, normals, gumbels(u), lambda z: tf.constant(g(z.numpy()))),
            second_order=method == "reindge",
            **options,
        )
        return z.numpy(), s
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
    if options.get("form") == "stgs" or method in ("redge", "reindge"):
        given["fresh_noise"] = uniforms(CATEGORICAL.shape, 2)
    logits = tf.constant(CATEGORICAL)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(
            getattr(rebar.straight_through, method)(logits, **given, **options).z ** 2
        )
    _, expected = surrogate(method, CATEGORICAL, lambda z: 2 * z, **options)
    np.testing.assert_allclose(tape.gradient(loss, logits), expected, rtol=1e-9, atol=1e-11)
