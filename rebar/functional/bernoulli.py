"""Estimates of the gradient of E f with respect to Bernoulli logits, for ascent.

With p = sigmoid(logits), b = 1[u > 1 - p] for uniforms u, b~ the same with 1 - u, z = logits +
logit u, z~ the same with noise redrawn given b, and y = sigmoid(z / T) or another relaxation:

    reinforce  f(b) (b - p)                                                    Williams 1992
    loo        1/K sum_k (f(b_k) - mean of the others) (b_k - p)               Kool et al. 2019
    arm        (f(b) - f(b~)) (u - 1/2)                                        Yin & Zhou 2019
    disarm     1/2 (f(b) - f(b~)) (-1)^b~ 1[b != b~] sigmoid(|logits|)         Dong et al. 2020
    rebar      (f(b) - c(z~)) (b - p) + d c(z) - d c(z~),  c = s f(y)          Tucker et al. 2017
    relax      the same with c = s (f(y) + r(z))                               Grathwohl et al. 2018
    gumbel     d f(y)                                                          Jang et al. 2016

All but gumbel, whose mean is d E f(y), are unbiased for d E f(b). The last three differentiate f at
samples in (0, 1): f must be differentiable and must not sample from b. If f samples from b, rebar
and relax are biased, which is not detected.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rebar.core import bernoulli, logit_gradients
from rebar.core.validity import Validity
from rebar.errors import RebarError
from rebar.functional import arguments
from rebar.functional.method import Method
from rebar.functional.relaxed import with_control_variate


class Problem(NamedTuple):
    """Arguments of a method.

    Attributes:
      f: [B, H] -> [B].
      logits: [B, H], a constant for tapes.
      u: [K, B, H] uniforms; K is 1 except for loo.
      options: the method's options.
    """

    f: Callable
    logits: tf.Tensor
    u: tf.Tensor
    options: dict

    def hard(self, u, sign=1):
        """b (sign 1) or b~ (sign -1), [B, H]."""
        return bernoulli.hard_sample(self.logits, sign * bernoulli.logistic(u))

    def relaxed(self, logits, zeta):
        """y [B, H]."""
        o = self.options
        return bernoulli.relaxed_sample(logits, zeta, o["temperature"], o["muprop_relaxation"])


def _reinforce(problem):
    b = problem.hard(problem.u[0])
    f = problem.f(b)
    return logit_gradients.reinforce(tf.stop_gradient(f), b, problem.logits), f, 1


def _leave_one_out(problem):
    samples = [problem.hard(u) for u in tf.unstack(problem.u)]
    f = tf.stack([problem.f(b) for b in samples])
    signals = logit_gradients.leave_one_out(tf.stop_gradient(f))
    terms = [
        logit_gradients.reinforce(signal, b, problem.logits)
        for signal, b in zip(tf.unstack(signals), samples, strict=True)
    ]
    return tf.add_n(terms) / len(terms), tf.reduce_mean(f, axis=0), len(terms)


def _arm(problem):
    _, f, f_antithetic, value = _pair(problem)
    return logit_gradients.arm(f, f_antithetic, problem.u[0]), value, 2


def _disarm(problem):
    (b, b_antithetic), f, f_antithetic, value = _pair(problem)
    gradient = logit_gradients.disarm(f, f_antithetic, b, b_antithetic, problem.logits)
    return gradient, value, 2


def _pair(problem):
    """b and b~, f at both as constants, and their mean."""
    samples = [problem.hard(problem.u[0], sign) for sign in (1, -1)]
    f, f_antithetic = (problem.f(b) for b in samples)
    value = (f + f_antithetic) / 2
    return samples, tf.stop_gradient(f), tf.stop_gradient(f_antithetic), value


def _relaxed_control_variate(problem):
    o = problem.options
    u, network = problem.u[0], o.get("network")

    def terms(logits, zeta):
        values = {"f": o["scale"] * problem.f(problem.relaxed(logits, zeta))}
        if network is not None:
            r = arguments.values_of(network, "network", logits + zeta)
            values["network"] = o["scale"] * r
        return values

    b = problem.hard(u)
    f = problem.f(b)
    gradient = with_control_variate(f, b, u, problem.logits, terms, o["v"])
    return gradient, f, 2 if o["v"] is None else 3


def _gumbel(problem):
    logits, zeta = tf.identity(problem.logits), bernoulli.logistic(problem.u[0])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(logits)
        relaxed = problem.f(problem.relaxed(logits, zeta))
    gradient = tape.gradient(relaxed, logits)
    arguments.require_derivative(gradient, "f")
    return gradient, problem.f(problem.hard(problem.u[0])), 2


_RELAXED = {"temperature": 0.5, "muprop_relaxation": True}
_REBAR = {**_RELAXED, "scale": 1.0, "v": None, "differentiable": False}
_RELAX = {**_REBAR, "muprop_relaxation": False, "network": None}
_COUPLED = "2, or 3 with v"

METHODS = {
    "reinforce": Method(_reinforce, True, False, "1", {}),
    "loo": Method(_leave_one_out, True, False, "n_samples", {"n_samples": 2}),
    "arm": Method(_arm, True, False, "2", {}),
    "disarm": Method(_disarm, True, False, "2", {}),
    "rebar": Method(_relaxed_control_variate, True, True, _COUPLED, _REBAR),
    "relax": Method(_relaxed_control_variate, True, True, _COUPLED, _RELAX),
    "gumbel": Method(_gumbel, False, True, "2", _RELAXED),
}
"""Name -> method."""

_MAX_SAMPLES = 2**20


def logits_of(value: Any) -> tf.Tensor:
    """Convert and validate logits [B, H] or [H]."""
    return arguments.logits_of(value, lambda shape: shape.rank in (1, 2), "[B, H] or [H]")


def problem(
    f: Callable,
    logits: tf.Tensor,
    source: arguments.NoiseSource,
    validity: Validity,
    options: dict[str, Any],
) -> Problem:
    """Validate options and draw uniforms for logits [B, H]."""
    k = options.get("n_samples", 2)
    if not isinstance(k, int | np.integer) or not 2 <= k <= _MAX_SAMPLES:
        raise RebarError(f"n_samples={k!r}: must be an integer from 2 to {_MAX_SAMPLES}")
    if "network" in options and not callable(options["network"]):
        raise RebarError(
            f"network={options['network']!r}: must be a function from z [B, H] to [B] for relax; "
            "pass e.g. rebar.FreeForm(n_units), or use rebar"
        )
    for name, shapes in {"temperature": ([0, None], [0, 1]), "scale": ([0],)}.items():
        if name in options:
            options[name] = arguments.option_of(
                options[name], name, logits, validity, *shapes, above_0=name == "temperature"
            )
    for name in ("muprop_relaxation", "differentiable"):
        if not isinstance(options.get(name, True), bool | np.bool_):
            raise RebarError(f"{name}={options[name]!r}: must be True or False")
    single = source.logits.shape.rank == 1

    def rows(u):
        return tf.expand_dims(u, -2) if single else u

    if options.get("v") is not None:
        options["v"] = rows(source.custom(options["v"], "v"))
    u = rows(source.samples(options.get("n_samples")))
    return Problem(f, logits, u if "n_samples" in options else u[tf.newaxis], options)
