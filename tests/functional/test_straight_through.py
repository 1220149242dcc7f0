"""`rebar.straight_through`: layers, and estimates for custom functions."""

import numpy as np
import pytest
import tensorflow as tf

import rebar
import rebar.noise
from rebar.core.categorical import softmax_product
from rebar.errors import RebarError
from rebar.functional.straight_through import LAYERS

DIFFUSED = ("redge", "reindge")
"""Layers whose samples do not follow softmax(logits)."""
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(5, 3, 4))
DRAWN = ("gumbel_rao", "reinmax_rao", "reinmax_cv")


def uniforms(*shape, position=0):
    return rebar.noise.uniforms(rebar.noise.key(5, "analysis", position), shape, tf.float64)


def options(name):
    return {"draws": 3} if name in DRAWN else {}


def layer(name, logits=LOGITS, **arguments):
    return LAYERS[name](logits, **({"seed": 0, "step": 0} | options(name) | arguments))


def gradients(call, logits, g, g_probs):
    """z and the gradient by the logits of <g, z> + <g_probs, probs>."""
    with tf.GradientTape() as tape:
        tape.watch(logits)
        z, probs = call(logits)
        loss = tf.reduce_sum(g * z) + tf.reduce_sum(g_probs * probs)
    return z, tape.gradient(loss, logits)


def test_lazy_name():
    assert rebar.straight_through.LAYERS is LAYERS
    assert "straight_through" in dir(rebar)


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in DIFFUSED])
def test_samples(name):
    """One-hot, from softmax(logits) by 5 deviations, a false alarm in 1.7e6 for each of 4."""
    n, logits = 20_000, LOGITS[0, 0]
    z, probs = layer(name, np.broadcast_to(logits, (n, 4)))
    p = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(probs, np.broadcast_to(p, (n, 4)), rtol=1e-12)
    np.testing.assert_array_equal(np.sort(z, -1), np.broadcast_to([0, 0, 0, 1], (n, 4)))
    assert np.all(np.abs(z.numpy().mean(0) - p) < 5 * np.sqrt(p * (1 - p) / n))


@pytest.mark.parametrize("name", DIFFUSED)
def test_samples_of_diffusions(name):
    """Total variation distances from softmax(logits): large without a chain, small but not 0."""
    n, logits = 100_000, np.array([1.0, 0.0, -1.0])
    p = np.exp(logits) / np.exp(logits).sum()
    distances = {}
    for steps, end in ((2, 0.5), (3, 0.5), (5, 0.5), (5, 0.8)):
        z = layer(name, np.broadcast_to(logits, (n, 3)), steps=steps, end=end).z
        distances[steps, end] = np.sum(np.abs(np.mean(z, axis=0) - p)) / 2
    expected = {(2, 0.5): 0.147, (3, 0.5): 0.014, (5, 0.5): 0.006, (5, 0.8): 0.0}
    assert distances == pytest.approx(expected, abs=4e-3)
    with pytest.raises(RebarError, match="steps=1: "):
        layer(name, steps=1)
    with pytest.raises(RebarError, match="end=1: "):
        layer(name, end=1.0)


def test_the_sample_is_the_same_for_all():
    reference = layer("reinmax").z
    for name in LAYERS.keys() - set(DIFFUSED):
        option = {"reinmax_rk2": "beta", "decoupled_st": "backward_temperature"}.get(
            name, "temperature"
        )
        for arguments in [{option: t} for t in (0.1, 1, 9.0)]:
            np.testing.assert_array_equal(layer(name, **arguments).z, reference)
    for other in ({"seed": 1}, {"step": 1}, {"seed": (0, 1)}):
        assert np.any(layer("reinmax", **other).z != reference)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    ("shape", "dtype"), [((4,), tf.float32), ((6, 2), tf.float64), ((2, 3, 2, 5), tf.float32)]
)
def test_modes_and_shapes(name, dtype, shape):
    """Any leading axes; eager, function of unknown batch, XLA; gradient through z and probs.

    XLA compiles one shape, as a compilation takes a second. An invalid logit gives NaN.
    """
    g, g_probs, start = (tf.constant(RANDOM.normal(size=shape), dtype) for _ in range(3))

    def call(logits, g, g_probs, step):
        return gradients(lambda x: layer(name, x, step=step), logits, g, g_probs)

    step = tf.constant(7)
    z, eager = call(start, g, g_probs, step)
    assert z.dtype == eager.dtype == dtype
    assert z.shape == eager.shape == shape
    unknown = tf.TensorSpec([None, *shape[1:]] if len(shape) > 1 else shape, dtype)
    signature = [unknown] * 3 + [tf.TensorSpec([], tf.int32)]
    tolerance = 3e-6 if dtype == tf.float32 else 1e-13
    modes = [{"input_signature": signature}]
    if len(shape) == 4:
        modes.append({"jit_compile": True})
    for arguments in modes:
        graph = tf.function(call, autograph=False, **arguments)
        invalid = np.array(start)
        invalid.flat[0] = np.nan
        for result in graph(invalid, g, g_probs, step):
            assert np.isnan(result).all()
        z_graph, in_graph = graph(start, g, g_probs, step)
        np.testing.assert_array_equal(z_graph, z)
        np.testing.assert_allclose(in_graph, eager, atol=tolerance * (1 + np.max(np.abs(eager))))
    _, by_z = gradients(lambda x: layer(name, x, step=7), start, g, 0)
    probs = tf.nn.softmax(start)
    added = softmax_product(probs, g_probs)
    np.testing.assert_allclose(eager, by_z + added, atol=tolerance * (1 + np.max(np.abs(eager))))
    assert np.max(np.abs(added)) > 1e-3


def test_two_temperatures():
    """Samples and probs are those of logits / T_f; with T_f = T_b = 1 it is st."""
    g, logits, given = tf.constant(RANDOM.normal(size=(5, 3, 4))), tf.constant(LOGITS), {"step": 3}
    sample = layer("decoupled_st", forward_temperature=0.6, backward_temperature=1.7, **given)
    scaled = layer("st", LOGITS / 0.6, **given)
    np.testing.assert_array_equal(sample.z, scaled.z)
    np.testing.assert_allclose(sample.probs, scaled.probs, rtol=1e-12)
    assert np.any(sample.z != layer("st", **given).z)
    for temperature in (1.0, 1.7):
        z, by_z = gradients(
            lambda x, t=temperature: layer("decoupled_st", x, backward_temperature=t, **given),
            *(logits, g, 0),
        )
        z_st, by_st = gradients(
            lambda x, t=temperature: layer("st", x, temperature=t, **given), logits, g, 0
        )
        np.testing.assert_array_equal(z, z_st)
        np.testing.assert_allclose(by_z, by_st, rtol=1e-12)


def test_custom_noise():
    """Samples, draws and, for stgs, fresh Gumbels use separate uniforms."""
    u, v, w = uniforms(5, 3, 4), uniforms(7, 5, 3, 4, position=1), uniforms(5, 3, 4, position=2)
    g, logits = tf.constant(RANDOM.normal(size=(5, 3, 4))), tf.constant(LOGITS)

    def compute(name, **arguments):
        return gradients(lambda x: LAYERS[name](x, noise=u, **arguments), logits, g, 0)

    expected = np.eye(4)[np.argmax(LOGITS - np.log(-np.log(u)), -1)]
    np.testing.assert_array_equal(compute("st")[0], expected)
    by_k = {k: compute("gumbel_rao", draws_noise=v[:k])[1] for k in (1, 6, 7)}
    np.testing.assert_allclose(
        7 * by_k[7], 6 * by_k[6] + compute("gumbel_rao", draws_noise=v[6:], draws=1)[1], atol=1e-12
    )
    assert np.max(np.abs(by_k[1] - by_k[7])) > 1e-3
    stgs = {"draws_noise": v, "form": "stgs"}
    first, second = (compute("reinmax_cv", fresh_noise=n, **stgs)[1] for n in (u, w))
    assert np.max(np.abs(first - second)) > 1e-3


def test_temperature_may_be_a_tensor_or_a_variable():
    g, logits = tf.constant(RANDOM.normal(size=(5, 3, 4))), tf.constant(LOGITS)
    for name in LAYERS.keys() - {"reinmax_rk2", "decoupled_st", *DIFFUSED}:
        number, tensor, variable = (
            gradients(lambda x, n=name, t=t: layer(n, x, temperature=t), logits, g, 0)[1]
            for t in (0.7, tf.constant(0.7), tf.Variable(0.7, dtype=tf.float64))
        )
        np.testing.assert_allclose(variable, number, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(tensor, number, rtol=1e-5, atol=1e-6)


MISTAKES = {
    "temperature=0: ": {"temperature": 0},
    "temperature=-1.5: ": {"temperature": -1.5},
    "temperature=nan: ": {"temperature": float("nan")},
    r"temperature of shape \[3\]: .*scalar": {"temperature": np.ones(3)},
    "logits of type int64: .*tf.cast": {"logits": np.zeros((2, 3), np.int64)},
    r"logits of shape \[5, 1\]: .*\[..., C\]": {"logits": np.zeros((5, 1))},
    r"logits of shape \[\]: .*\[..., C\]": {"logits": 0.5},
    "seed and step: missing; pass seed=0, step=i": {"step": None},
    "noise, seed and step: ": {"noise": np.full((5, 3, 4), 0.5)},
    r"noise of shape \[4\]: .*\[5, 3, 4\]": {
        "noise": np.full(4, 0.5),
        "seed": None,
        "step": None,
    },
    "seed=-1: ": {"seed": -1},
    "seed='x': ": {"seed": "x"},
    "step of type float32 and shape": {"step": 0.5},
    r"step of type int64 and shape \(2,\)": {"step": np.arange(2)},
    "temperature of type string: ": {"temperature": "x"},
    "logits=None: ": {"logits": None},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_errors(message):
    with pytest.raises(RebarError, match=message):
        layer("reinmax", **MISTAKES[message])


NO_SEED = {"noise": np.full((5, 3, 4), 0.5), "seed": None, "step": None}
MISTAKES_OF_SOME = {
    "draws=0: ": ("reinmax_rao", {"draws": 0}),
    "draws=2.5: ": ("gumbel_rao", {"draws": 2.5}),
    r"draws_noise: missing; .*\[3, 5, 3, 4\]": (
        "gumbel_rao",
        NO_SEED,
    ),
    r"draws_noise of shape \[5, 3, 4\]: .*\[2, 5, 3, 4\]": (
        "gumbel_rao",
        {"draws_noise": np.full((5, 3, 4), 0.5), "draws": 2},
    ),
    "fresh_noise: missing": (
        "reinmax_cv",
        {"form": "stgs", "draws_noise": np.full((3, 5, 3, 4), 0.5), **NO_SEED},
    ),
    r"draws_noise of shape \[\]: .*\[3, 5, 3, 4\]": (
        "gumbel_rao",
        {"draws_noise": 0.5, **NO_SEED},
    ),
    r"noise in \[0, 0\]: .*\(0, 1\)": (
        "reinmax",
        {"noise": np.zeros((5, 3, 4)), "seed": None, "step": None},
    ),
    "draws_noise of type string: ": (
        "gumbel_rao",
        {"draws_noise": "x", **NO_SEED},
    ),
    "form='paper': choose from released, stgs": ("reinmax_cv", {"form": "paper"}),
    "form='stgs': choose from consistent, released": ("reinmax_rk2", {"form": "stgs"}),
    "gap=0: ": ("gst", {"gap": 0}),
    "beta=inf: ": ("reinmax_rk2", {"beta": float("inf")}),
    r"scale of shape \[2\]: .*scalar": ("reinmax_cv", {"scale": [1.0, 2.0]}),
}


@pytest.mark.parametrize("message", MISTAKES_OF_SOME)
def test_errors_of_options(message):
    name, arguments = MISTAKES_OF_SOME[message]
    with pytest.raises(RebarError, match=message):
        layer(name, **arguments)
