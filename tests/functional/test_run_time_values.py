"""Values that are known at run time only: an error in eager mode, NaN in graphs and under XLA.

Every public function that takes logits, every argument and callback whose value or shape may be
known at run time only, in three modes. A valid value in the same graph gives finite numbers, so
that the NaN comes from the invalid one.
"""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.errors import RebarError
from rebar.functional import straight_through

RANDOM = np.random.default_rng(0)
BINARY = RANDOM.normal(size=(5, 3)).astype(np.float32)
CATEGORICAL = RANDOM.normal(size=(5, 2, 3)).astype(np.float32)
NUMBERS = {
    "baseline": (0.7, (np.inf, np.nan)),
    "temperature": (0.7, (0.0, -0.5, np.inf, np.nan)),
    "forward_temperature": (0.7, (0.0, -0.5, np.inf, np.nan)),
    "backward_temperature": (0.7, (0.0, -0.5, np.inf, np.nan)),
    "scale": (0.7, (np.inf, np.nan)),
    "end": (0.4, (0.0, -0.5, 1.0, np.nan)),
    "gap": (1.0, (0.0, -1.0, np.nan)),
    "beta": (0.4, (np.inf, np.nan)),
}
"""Option -> a valid number and invalid ones."""

OPTIONS = {
    "reinforce": ("baseline",),
    "gumbel": ("temperature",),
    "rebar": ("temperature", "scale"),
    "relax": ("temperature", "scale"),
    "st": ("temperature",),
    "decoupled_st": ("forward_temperature", "backward_temperature"),
    "redge": ("end",),
    "reindge": ("end",),
    "st_gumbel": ("temperature",),
    "gumbel_rao": ("temperature",),
    "gst": ("temperature", "gap"),
    "reinmax": ("temperature",),
    "reinmax_rao": ("temperature",),
    "reinmax_cv": ("temperature", "scale"),
    "reinmax_rk2": ("beta",),
}
VALUES_ONLY = ("reinforce", "loo", "arm", "disarm")
BINARY_METHODS = (*VALUES_ONLY, "rebar", "relax", "gumbel")
LAYERS = tuple(straight_through.LAYERS)


def binary(method, logits, f=lambda b: tf.reduce_sum(b * [1.0, 2.0, 3.0], 1), **options):
    """Gradient and value of one call."""
    if "noise" not in options:
        options |= {"seed": 0, "step": 0}
    if method == "relax":
        options["network"] = lambda z: tf.reduce_sum(tf.sin(z), axis=1)
    estimate = rebar.estimate_gradient(method, f, logits, **options)
    return estimate.gradient, estimate.value


def categorical(method, logits, f=lambda z: tf.reduce_sum(z * [1.0, 2.0, 3.0], [1, 2]), **options):
    if "noise" not in options:
        options |= {"seed": 0, "step": 0}
    if method in straight_through.LAYERS and "rao" in method + "cv" * (method == "reinmax_cv"):
        options.setdefault("draws", 2)
    if method == "relax":
        options["network"] = lambda z: tf.reduce_sum(tf.sin(z), axis=1)
    estimate = rebar.estimate_gradient(method, f, logits, family="categorical", **options)
    return estimate.gradient, estimate.value


def layer(method, logits, **options):
    """z, and the gradient of a loss that is linear in it, which no NaN in z would reach."""
    options = {"seed": 0, "step": 0} if "noise" not in options else {}
    with tf.GradientTape() as tape:
        tape.watch(logits)
        sample = straight_through.LAYERS[method](logits, **options)
        loss = tf.reduce_sum(sample.z[..., 0])
    return tape.gradient(loss, logits), sample.z


def cases():
    """(name, call, method, logits, argument, valid, invalid)."""
    for method, names in OPTIONS.items():
        call, logits = (binary, BINARY) if method in BINARY_METHODS else (categorical, CATEGORICAL)
        for name in names:
            valid, invalid = NUMBERS[name]
            for bad in invalid:
                yield call, method, logits, name, np.float32(valid), np.float32(bad)
    for method in BINARY_METHODS:
        shape = (2, 5, 3) if method == "loo" else (5, 3)
        u = RANDOM.uniform(0.1, 0.9, shape).astype(np.float32)
        for bad in (0.0, 1.0, -0.2, 1.5, np.nan):
            yield binary, method, BINARY, "noise", u, np.where(u == u.flat[0], np.float32(bad), u)
        nan = np.where(BINARY[0, 0] == BINARY, np.float32(np.nan), BINARY)
        yield binary, method, BINARY, "logits", BINARY, nan
    for method in ("rebar", "relax"):
        v = RANDOM.uniform(0.1, 0.9, (5, 3)).astype(np.float32)
        yield binary, method, BINARY, "v", v, np.where(v == v[0, 0], np.float32(1.5), v)
    for method in (*LAYERS, "reinforce", "loo", "relax", "rebar", "gumbel"):
        nan = np.where(CATEGORICAL[0, 0, 0] == CATEGORICAL, np.float32(np.nan), CATEGORICAL)
        yield categorical, method, CATEGORICAL, "logits", CATEGORICAL, nan
    for method in LAYERS:
        nan = np.where(CATEGORICAL[0, 0, 0] == CATEGORICAL, np.float32(np.nan), CATEGORICAL)
        yield layer, method, CATEGORICAL, "logits", CATEGORICAL, nan
    for method in ("st", "reinmax", "reinforce"):
        u = RANDOM.uniform(0.1, 0.9, (5, 2, 3)).astype(np.float32)
        bad = np.where(u == u[0, 0, 0], np.float32(1.5), u)
        yield categorical, method, CATEGORICAL, "noise", u, bad


CASES = list(cases())


def cases_of(*first):
    """Sorted beginnings of cases, as parameters of a test."""
    keys = {tuple(case[i] for i in first) for case in CASES}
    return sorted(keys, key=lambda key: (key[0].__name__, *key[1:]))


@pytest.mark.parametrize(("call", "method", "argument"), cases_of(0, 1, 3))
def test_invalid_values_raise_or_give_nan(call, method, argument):
    chosen = [c for c in CASES if (c[0], c[1], c[3]) == (call, method, argument)]
    _, _, logits, _, valid, _ = chosen[0]

    def compute(value):
        options = {argument: value} if argument != "logits" else {}
        return call(method, value if argument == "logits" else tf.constant(logits), **options)

    unknown = tf.TensorSpec([None] * np.ndim(valid), tf.float32)
    if call is not binary or argument != "noise":
        unknown = tf.TensorSpec(np.shape(valid), tf.float32)
    graph = tf.function(compute, autograph=False, input_signature=[unknown])
    for result in graph(tf.constant(valid)):
        assert np.isfinite(result).all()
    for *_, invalid in chosen:
        for result in graph(tf.constant(invalid)):
            assert np.isnan(result).all(), (argument, invalid)
        for value in (tf.constant(invalid), tf.Variable(invalid)):
            with pytest.raises(RebarError, match=argument):
                compute(value)


@pytest.mark.parametrize(("call", "method"), [c for c in cases_of(0, 1) if c[0] is not layer])
def test_xla_computes_the_same_and_gives_nan_for_invalid_values(call, method):
    """All arguments of a method in one compilation; one of them at a time is invalid.

    test_straight_through.py compiles the layers.
    """
    chosen = [case[3:] for case in CASES if case[:2] == (call, method)]
    valid = {argument: tf.constant(value) for argument, value, _ in chosen}
    graph = tf.function(partial(call, method), autograph=False, jit_compile=True)
    for result, eager in zip(graph(**valid), call(method, **valid), strict=True):
        assert np.max(np.abs(eager)) > 0
        np.testing.assert_allclose(result, eager, rtol=1e-5, atol=1e-5)
    for argument, _, invalid in chosen:
        for result in graph(**(valid | {argument: tf.constant(invalid)})):
            assert np.isnan(result).all(), (argument, invalid)


SHAPES = {
    "f": (lambda value: {"f": lambda b: value}, np.ones(5), np.ones(1)),
    "temperature": (lambda value: {"temperature": value}, np.ones([5, 1]), np.ones([1, 1])),
    "noise": (lambda value: {"noise": value}, np.full([5, 3], 0.4), np.full([1, 3], 0.4)),
}
"""Argument -> options from a value; a value of the right shape, and one that broadcasts."""


@pytest.mark.parametrize(("argument", "method"), [("f", "disarm"), ("f", "reinforce"),
    ("temperature", "rebar"), ("noise", "arm")])  # fmt: skip
def test_shapes_that_broadcast_give_nan(argument, method):
    options, right, broadcast = SHAPES[argument]
    spec = tf.TensorSpec([None] * np.ndim(right), tf.float32)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, 3]), spec])
    def compute(logits, value):
        return binary(method, logits, **options(value))

    assert np.isfinite(compute(BINARY, tf.constant(right, tf.float32))[0]).all()
    assert np.isnan(compute(BINARY, tf.constant(broadcast, tf.float32))[0]).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
@pytest.mark.parametrize("make", [float, tf.constant, tf.Variable])
@pytest.mark.parametrize("name", ["SBNGumbel", "SBNRebar", "SBNRelax", "CatST", "CatReinMaxRao"])
def test_estimators_refuse_a_temperature(name, make, bad):
    hparams = rebar.HParams.parse(f"model={name}")
    with pytest.raises(RebarError, match="temperature"):
        type(rebar.registry.make_estimator(name, hparams))(temperature=make(bad))
