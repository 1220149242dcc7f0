"""Methods of `rebar.estimate_gradient` with hard samples alone; formulas in `methods`.

Each maps a `Problem` to the gradient, shaped like its logits, the value [B], the number of
evaluations of f, and the hard samples, shaped like its logits or [K, ...], or None.
"""

import tensorflow as tf

from rebar.core import bernoulli, families, logit_gradients
from rebar.errors import RebarError
from rebar.functional import arguments
from rebar.functional.problem import values

MAX_CODES = 2**16
"""Maximum number of states of `exact`, 2^H or C^V per row."""


def exact(problem):
    """One evaluation of f on all rows per state."""
    f, logits, family = problem.f, problem.logits, problem.family
    binary = family is families.BERNOULLI
    variables, n_categories = (logits.shape[1], 2) if binary else logits.shape[1:]
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
        index = code // place % n_categories
        state = tf.cast(index if binary else tf.one_hot(index, n_categories), logits.dtype)
        b = state + tf.zeros_like(logits)
        weighted = tf.exp(family.log_prob(b, logits)) * f(b)
        term = logit_gradients.reinforce(tf.stop_gradient(weighted), b, logits)
        return code + 1, gradient + term, value + weighted

    zeros = tf.zeros_like(logits)
    _, gradient, value = tf.while_loop(
        lambda code, *_: code < n_codes,
        add,
        (0, zeros, families.row_sum(zeros)),
        maximum_iterations=n_codes,
    )
    return gradient, value, n_codes, None


def reinforce(problem):
    baseline = problem.option("baseline", [0])
    b = problem.hard(problem.uniforms())
    f = problem.f(b)
    gradient = logit_gradients.reinforce(tf.stop_gradient(f) - baseline, b, problem.logits)
    return gradient, f, 1, b


def leave_one_out(problem):
    count = arguments.count_of(problem.options["n_samples"], "n_samples", 2)
    samples = problem.hard(problem.uniforms(count))
    f = values(problem.f, samples, count)
    signals = logit_gradients.leave_one_out(tf.stop_gradient(f))
    axes = [tf.newaxis] * (problem.logits.shape.rank - 1)
    terms = signals[(..., *axes)] * problem.family.score(samples, problem.logits)
    return tf.reduce_mean(terms, axis=0), tf.reduce_mean(f, axis=0), count, samples


def arm(problem):
    u = problem.uniforms()
    samples, f, f_antithetic, value = _pair(problem, u)
    return logit_gradients.arm(f, f_antithetic, u), value, 2, tf.stack(samples)


def disarm(problem):
    (b, b_antithetic), f, f_antithetic, value = _pair(problem, problem.uniforms())
    gradient = logit_gradients.disarm(f, f_antithetic, b, b_antithetic, problem.logits)
    return gradient, value, 2, tf.stack([b, b_antithetic])


def _pair(problem, u):
    """b and b~, f at both as constants, and their mean."""
    samples = [problem.hard(u, sign) for sign in (1, -1)]
    f, f_antithetic = (problem.f(b) for b in samples)
    value = (f + f_antithetic) / 2
    return samples, tf.stop_gradient(f), tf.stop_gradient(f_antithetic), value


def arms(problem):
    """n antithetic samples; noise [n, ...] of the first sample, and of the Dirichlet vector."""
    count = arguments.count_of(problem.options["n_antithetic"], "n_antithetic", 2)
    u = problem.uniforms(count)
    others = bernoulli.antithetic_samples(u[0], u[1:], problem.logits)
    samples = tf.concat([problem.hard(u[0])[tf.newaxis], others], axis=0)
    f = values(problem.f, samples, count)
    gradient = logit_gradients.arms(tf.stop_gradient(f), samples, problem.logits)
    return gradient, tf.reduce_mean(f, axis=0), count, samples


def double_cv(problem):
    """K samples, and the derivatives of f at them."""
    count = arguments.count_of(problem.options["n_samples"], "n_samples", 2)
    scale = problem.option("scale")
    samples = problem.hard(problem.uniforms(count))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(samples)
        f = values(problem.f, samples, count)
    derivative = tape.gradient(f, samples)
    arguments.require_derivative(derivative, "f")
    b, derivative = (tf.reshape(v, [-1, *samples.shape[2:]]) for v in (samples, derivative))
    logits = families.repeated(problem.logits, count)
    gradient = logit_gradients.double_cv(
        tf.reshape(tf.stop_gradient(f), [-1]), b, logits, tf.stop_gradient(derivative), scale, count
    )
    gradient = tf.reduce_mean(tf.reshape(gradient, tf.shape(samples)), axis=0)
    return gradient, tf.reduce_mean(f, axis=0), count, samples


def leg(problem):
    """One sample, and one more evaluation of f per unit."""
    units = problem.logits.shape[1]
    if units is None:
        raise RebarError("logits: leg needs a static number of units; set their shape")
    b = problem.hard(problem.uniforms())
    f = problem.f(b)
    flips = tf.eye(units, dtype=b.dtype)[:, tf.newaxis]
    flipped = tf.transpose(values(problem.f, b + flips * (1 - 2 * b), units))
    gradient = logit_gradients.leg(
        tf.stop_gradient(f), tf.stop_gradient(flipped), b, problem.logits
    )
    return gradient, f, 1 + units, b
