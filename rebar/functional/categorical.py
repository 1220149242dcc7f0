"""Estimates of the gradient of E f with respect to categorical logits, for ascent.

    exact      sum over all codes D: q(D) f(D) (D - pi)
    reinforce  f(D) (D - pi)                                              Williams 1992
    loo        1/K sum_k (f(D_k) - mean of the others) (D_k - pi)         Kool et al. 2019

For logits [B, ..., C]; a code is one category per latent variable of a row. These three are
unbiased and use values of f only; exact has no noise. Every straight-through layer (`LAYERS`) is
also a method, which differentiates f through it and is biased.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from rebar.core import categorical, logit_gradients, straight_through
from rebar.core.validity import Validity
from rebar.errors import RebarError
from rebar.functional import arguments
from rebar.functional.method import Method
from rebar.functional.straight_through import LAYERS


class Problem(NamedTuple):
    """Arguments of a method.

    Attributes:
      f: one-hot samples [B, ..., C] -> [B].
      logits: [B, ..., C], a constant for tapes.
      source: source of uniforms.
      options: the method's options.
    """

    f: Callable
    logits: tf.Tensor
    source: arguments.NoiseSource
    options: dict


MAX_CODES = 2**16
"""Maximum number of codes of `exact`, C^L for L latent variables per row."""


def _exact(problem: Problem) -> tuple:
    """Enumerate codes, with one evaluation of f on all rows per code."""
    f, logits = problem.f, problem.logits
    variables, n_categories = logits.shape[1:-1].num_elements(), logits.shape[-1]
    if variables is None:
        raise RebarError("logits: exact needs a static number of latent variables; set their shape")
    n_codes = n_categories**variables
    if n_codes > MAX_CODES:
        raise RebarError(
            f"exact: {n_categories}^{variables} codes are more than {MAX_CODES}; use fewer latent "
            "variables, or loo with many samples"
        )
    place = tf.constant([n_categories**i for i in range(variables)], tf.int32)

    def add(code, gradient, value):
        index = tf.reshape(code // place % n_categories, logits.shape[1:-1])
        one_hot = tf.one_hot(index, n_categories, dtype=logits.dtype) + tf.zeros_like(logits)
        log_q = categorical.log_prob(one_hot, logits)
        q = tf.exp(tf.reduce_sum(log_q, axis=list(range(1, log_q.shape.rank))))
        weighted = q * f(one_hot)
        signal = tf.stop_gradient(weighted)
        return (
            code + 1,
            gradient + straight_through.reinforce(logits, one_hot, signal),
            value + weighted,
        )

    zeros = tf.zeros_like(logits)
    start = (0, zeros, tf.reduce_sum(zeros, axis=list(range(1, logits.shape.rank))))
    _, gradient, value = tf.while_loop(
        lambda code, *_: code < n_codes, add, start, maximum_iterations=n_codes
    )
    return gradient, value, n_codes


def _reinforce(problem: Problem) -> tuple:
    logits = problem.logits
    one_hot = categorical.hard_sample(logits, categorical.gumbels(problem.source.samples()))
    value = problem.f(one_hot)
    return straight_through.reinforce(logits, one_hot, tf.stop_gradient(value)), value, 1


def _leave_one_out(problem: Problem) -> tuple:
    logits = problem.logits
    count = arguments.count_of(problem.options["n_samples"], "n_samples", 2)
    samples = [
        categorical.hard_sample(logits, categorical.gumbels(u))
        for u in tf.unstack(problem.source.samples(count))
    ]
    values = tf.stack([problem.f(one_hot) for one_hot in samples])
    signals = logit_gradients.leave_one_out(tf.stop_gradient(values))
    terms = [
        straight_through.reinforce(logits, one_hot, signal)
        for one_hot, signal in zip(samples, tf.unstack(signals), strict=True)
    ]
    return tf.add_n(terms) / len(terms), tf.reduce_mean(values, axis=0), len(terms)


def _through(layer: Callable) -> Method:
    """Return the method that differentiates f through a straight-through layer."""

    def compute(problem):
        source, logits = problem.source, problem.logits
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(logits)
            sample = layer(
                logits, noise=source.noise, seed=source.seed, step=source.step, **problem.options
            )
            value = problem.f(sample.z)
        gradient = tape.gradient(value, logits)
        arguments.require_derivative(gradient, "f")
        return gradient, value, 1

    options = {
        name: parameter.default
        for name, parameter in inspect.signature(layer).parameters.items()
        if name not in ("logits", "noise", "seed", "step")
    }
    return Method(compute, False, True, "1", options)


METHODS = {
    "exact": Method(_exact, True, False, "C^L", {}),
    "reinforce": Method(_reinforce, True, False, "1", {}),
    "loo": Method(_leave_one_out, True, False, "n_samples", {"n_samples": 2}),
    **{name: _through(layer) for name, layer in LAYERS.items()},
}
"""Name -> method."""


def logits_of(value: Any) -> tf.Tensor:
    """Convert and validate logits [B, ..., C]."""
    return arguments.logits_of(
        value,
        lambda shape: (shape.rank or 0) >= 2 and (shape[-1] or 0) >= 2,
        "[B, ..., C] with C >= 2 categories",
    )


def problem(
    f: Callable,
    logits: tf.Tensor,
    source: arguments.NoiseSource,
    validity: Validity,
    options: dict[str, Any],
) -> Problem:
    """Return the arguments of a method; straight-through layers validate their options."""
    return Problem(f, logits, source, options)
