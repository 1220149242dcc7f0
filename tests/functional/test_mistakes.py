"""Mistakes in the use of `rebar.estimate_gradient` are explained."""

import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.errors import RebarError
from rebar.functional.bernoulli import METHODS
from tests.functional import problems
from tests.functional.test_use import LOGITS, f, settings, uniforms


def call(method="disarm", function=f, logits=LOGITS, noise=None, seed=0, step=0, **options):
    return rebar.estimate_gradient(
        method, function, logits, noise=noise, seed=seed, step=step, **options
    )


MISTAKES = {
    "unknown method 'DisARM'; did you mean disarm or arm.; available: reinforce, loo, arm, disarm, "
    "rebar, relax, gumbel": {"method": "DisARM"},
    r"logits must be \[B, H\] or \[H\], given: \[2, 3, 4\]": {"logits": np.zeros((2, 3, 4))},
    r"logits must be float32 or float64, given: int64; type tf.cast\(logits, tf.float32\)": {
        "logits": np.zeros((2, 3), np.int64)
    },
    r"f must return one number per row, shape \[5\], for samples of shape \[5, 3\]; it returned "
    r"\[5, 1\].*tf.squeeze": {"function": lambda b: b[:, :1]},
    r"it returned \[\]\. Sum": {"function": tf.reduce_sum},
    r"f must return one number per row, shape \[5\].*it returned None": {
        "function": lambda b: None
    },
    r"scale must be a scalar or \[5\], given: \[5, 1\]": {
        "method": "rebar",
        "scale": np.ones((5, 1)),
    },
    r"temperature must be a scalar or \[5, 1\] or \[5, 3\], given: \[3\]": {
        "method": "rebar",
        "temperature": np.ones(3),
    },
    r"network must return one number per row.*\[5, 3\]": {"method": "relax", "network": tf.sin},
    "no noise to draw samples with; give seed=0, step=i": {"step": None},
    "give noise, or seed and step, not both": {"noise": uniforms("disarm")},
    r"noise must be uniforms of shape \[5, 3\], as the logits are, given: \[3\]": {
        "noise": np.full(3, 0.5),
        "seed": None,
        "step": None,
    },
    r"noise must be uniforms of shape \[4, 5, 3\].*given: \[2, 5, 3\]": {
        "method": "loo",
        "n_samples": 4,
        "noise": uniforms("loo"),
        "seed": None,
        "step": None,
    },
    r"noise must be uniforms in \(0, 1\), given: a smallest of 1.5, a largest of 1.5": {
        "noise": np.full((5, 3), 1.5),
        "seed": None,
        "step": None,
    },
    r"v must be uniforms of shape \[5, 3\]": {"method": "rebar", "v": np.full((5, 1), 0.5)},
    "disarm has no option 'temperature'; it takes: no options; temperature is an option of: "
    "rebar, relax, gumbel": {"temperature": 0.1},
    "loo has no option 'samples'; it takes: n_samples$": {"method": "loo", "samples": 3},
    "n_samples must be an integer from 2 to 1048576, given: 1": {"method": "loo", "n_samples": 1},
    "temperature must be above 0 and finite, given: 0": {"method": "gumbel", "temperature": 0},
    r"relax needs network=r.*rebar.FreeForm\(n_units\); without one use rebar": {"method": "relax"},
    "seed -1 must be an integer from 0": {"seed": -1},
    "seed 'x' must be an integer from 0": {"seed": "x"},
    "step must be an integer, given: float32": {"step": 0.5},
    "n_samples must be an integer from 2 to 1048576, given: 1000000000000": {
        "method": "loo",
        "n_samples": 10**12,
    },
    r"unknown method \['arm'\]; available": {"method": ["arm"]},
    "f must be a function of the samples, given: 3": {"function": 3},
    "what f returns must be real numbers, given: complex128": {
        "function": lambda b: tf.complex(f(b), f(b))
    },
    "logits must be a number or an array of numbers, given: None": {"logits": None},
    "noise must be real numbers, given: string": {"noise": "x", "seed": None, "step": None},
    "temperature must be above 0 and finite, given: nan": {
        "method": "rebar",
        "temperature": float("nan"),
    },
    "temperature must be real numbers, given: string": {"method": "rebar", "temperature": "x"},
    "scale must be finite, given: inf": {"method": "rebar", "scale": float("inf")},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_explained(message):
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
    message = "f has no derivative with respect to its samples.*only: reinforce, loo, .*arm, disarm"
    with pytest.raises(RebarError, match=message):
        call(method, FLAT[function], **settings(method))
    assert np.all(np.isfinite(call("disarm", FLAT[function]).gradient))


def test_a_py_function_of_numpy_is_refused_in_graphs_too():
    estimate = tf.function(lambda: call("rebar", FLAT["py_function"]).gradient, autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="f has no derivative"):
        estimate()


def test_a_py_function_of_tensorflow_has_a_derivative():
    gradient = call("rebar", lambda b: in_python(f, b)).gradient
    np.testing.assert_allclose(gradient, call("rebar").gradient)


def test_a_network_must_have_a_derivative():
    with pytest.raises(RebarError, match="network has no derivative"):
        call("relax", network=lambda z: tf.zeros_like(z[:, 0]))


def test_known_properties_of_methods():
    assert {name for name, m in METHODS.items() if not m.unbiased} == {"gumbel"}
    assert {name for name, m in METHODS.items() if m.differentiates} == {"rebar", "relax", "gumbel"}
