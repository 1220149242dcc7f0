"""Errors of `rebar.estimate_gradient`."""

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.errors import RebarError
from rebar.functional.methods import METHODS
from rebar.functional.straight_through import LAYERS
from rebar.keras import StraightThrough
from tests.functional import problems
from tests.functional.test_use import LOGITS, f, settings, uniforms


def call(method="disarm", function=f, logits=LOGITS, noise=None, seed=0, step=0, **options):
    return rebar.estimate_gradient(
        method, function, logits, noise=noise, seed=seed, step=step, **options
    )


def table_of_z(z):
    return problems.table(3)(z > 0)


MISTAKES = {
    "unknown method 'DisARMS'; did you mean disarm or arms or arm.; available: exact, reinforce, "
    "loo, double_cv, arm, disarm, arms, leg, rebar, relax, gumbel$": {"method": "DisARMS"},
    r"logits of shape \[2, 3, 4\]: .*\[B, H\] or \[H\]": {"logits": np.zeros((2, 3, 4))},
    r"logits of type int64: .*tf.cast\(logits, tf.float32\)": {
        "logits": np.zeros((2, 3), np.int64)
    },
    r"f of shape \[5, 1\]: .* shape \[5\], for samples of shape \[5, 3\].*tf.squeeze": {
        "function": lambda b: b[:, :1]
    },
    r"f of shape \[\]: ": {"function": tf.reduce_sum},
    r"f of shape None: .* shape \[5\]": {"function": lambda b: None},
    r"scale of shape \[5, 1\]: .*scalar or \[5\]": {
        "method": "rebar",
        "scale": np.ones((5, 1)),
    },
    r"temperature of shape \[3\]: .*scalar or \[5, 1\] or \[5, 3\]": {
        "method": "rebar",
        "temperature": np.ones(3),
    },
    r"network of shape \[5, 3\]: .* shape \[5\]": {"method": "relax", "network": tf.sin},
    "network has no derivative.*relaxed_f=False": {"method": "relax", "network": table_of_z},
    "relaxed_f=1: must be True or False": {"method": "relax", "network": tf.sin, "relaxed_f": 1},
    r"baseline of shape \[3\]: .*scalar or \[5\]": {
        "method": "reinforce",
        "baseline": np.ones(3),
    },
    "baseline: unknown option of loo; .*: reinforce$": {"method": "loo", "baseline": 0.0},
    r"exact: 2\^17 codes are more than 65536": {"method": "exact", "logits": np.zeros((1, 17))},
    "seed and step: missing; pass seed=0, step=i": {"step": None},
    "noise, seed and step: ": {"noise": uniforms("disarm")},
    r"noise of shape \[3\]: .*\[5, 3\]": {
        "noise": np.full(3, 0.5),
        "seed": None,
        "step": None,
    },
    r"noise of shape \[2, 5, 3\]: .*\[4, 5, 3\]": {
        "method": "loo",
        "n_samples": 4,
        "noise": uniforms("loo"),
        "seed": None,
        "step": None,
    },
    r"noise in \[1.5, 1.5\]: .*\(0, 1\)": {
        "noise": np.full((5, 3), 1.5),
        "seed": None,
        "step": None,
    },
    r"v of shape \[5, 1\]: .*\[5, 3\]": {"method": "rebar", "v": np.full((5, 1), 0.5)},
    "temperature: unknown option of disarm; .*: rebar, relax, gumbel": {"temperature": 0.1},
    "samples: unknown option of loo; .*: n_samples$": {"method": "loo", "samples": 3},
    "n_samples=1: .*from 2 to 1048576": {"method": "loo", "n_samples": 1},
    "temperature=0: .*above 0": {"method": "gumbel", "temperature": 0},
    r"network=None: .*rebar.FreeForm\(n_units\)": {"method": "relax"},
    "seed=-1: .*from 0": {"seed": -1},
    "seed='x': .*from 0": {"seed": "x"},
    "step of type float32": {"step": 0.5},
    "n_samples=1000000000000: .*from 2 to 1048576": {
        "method": "loo",
        "n_samples": 10**12,
    },
    r"unknown method \['arm'\]; available": {"method": ["arm"]},
    "f=3: .*function": {"function": 3},
    "f of type complex128: ": {"function": lambda b: tf.complex(f(b), f(b))},
    "logits=None: ": {"logits": None},
    "noise of type string: ": {"noise": "x", "seed": None, "step": None},
    "temperature=nan: ": {
        "method": "rebar",
        "temperature": float("nan"),
    },
    "temperature of type string: ": {"method": "rebar", "temperature": "x"},
    "scale=inf: ": {"method": "rebar", "scale": float("inf")},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_errors(message):
    with pytest.raises(RebarError, match=message):
        call(**MISTAKES[message])


FLAT = {
    "numpy": lambda b: np.sum((b.numpy() - 0.3) ** 2, axis=1),
    "integers": lambda b: tf.reduce_sum(tf.cast(b, tf.int32), axis=1),
    "table": problems.table(3),
    "stopped": lambda b: tf.stop_gradient(f(b)),
    "numpy_function": lambda b: tf.ensure_shape(tf.numpy_function(f, [b], b.dtype), b.shape[:1]),
    "py_function": lambda b: in_python(lambda v: f(v.numpy()), b),
}


def in_python(function, b):
    return tf.ensure_shape(tf.py_function(function, [b], b.dtype), b.shape[:1])


@pytest.mark.parametrize("function", FLAT)
@pytest.mark.parametrize("method", ["rebar", "relax", "gumbel"])
def test_f_must_have_a_derivative(method, function):
    with pytest.raises(RebarError, match=r"f has no derivative .*reinforce, loo, .*arm, disarm"):
        call(method, FLAT[function], **settings(method))
    assert np.all(np.isfinite(call("disarm", FLAT[function]).gradient))


def test_a_py_function_of_numpy_is_refused_in_graphs_too():
    estimate = tf.function(lambda: call("rebar", FLAT["py_function"]).gradient, autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="f has no derivative"):
        estimate()


def test_a_py_function_of_tensorflow_has_a_derivative():
    gradient = call("rebar", lambda b: in_python(f, b)).gradient
    np.testing.assert_allclose(gradient, call("rebar").gradient)


@pytest.mark.parametrize("function", FLAT)
def test_a_network_alone_needs_values_of_f_only(function):
    network = rebar.FreeForm(3, dtype="float64")
    result = call("relax", FLAT[function], network=network, relaxed_f=False)
    plain = call("reinforce", FLAT[function])
    # The network starts at 0.
    np.testing.assert_allclose(result.gradient, plain.gradient, rtol=1e-12)
    assert result.evaluations == 1


def test_names_and_labels():
    for name in ("DisARM", "DISARM", "disarm"):
        np.testing.assert_array_equal(call(name).gradient, call("disarm").gradient)
    logits = np.zeros((5, 2, 3))
    for label, name in {"ST-GS": "st_gumbel", "ReinMax": "reinmax", "Exact": "exact"}.items():
        both = [
            call(n, lambda z: tf.reduce_sum(z[:, 0] ** 2, -1), logits, family="categorical")
            for n in (label, name)
        ]
        np.testing.assert_array_equal(both[0].gradient, both[1].gradient)
    assert StraightThrough("ReinMax").method == "reinmax"


def test_properties_of_methods():
    biased = {"gumbel", *LAYERS}
    assert {name for name, m in METHODS.items() if not m.unbiased} == biased
    differentiating = {"double_cv", "rebar", "relax"} | biased
    assert {name for name, m in METHODS.items() if m.differentiates} == differentiating
