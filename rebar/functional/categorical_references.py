"""Gradients of E f by categorical logits from values of f alone, for ascent: the references.

    exact      sum over all codes D: q(D) f(D) (D - pi)
    reinforce  f(D) (D - pi)                                              Williams 1992
    loo        1/K sum_k (f(D_k) - mean of the others) (D_k - pi)         Kool et al. 2019

For logits [B, ..., C]; a code is one category for each latent variable of a row. All are unbiased;
exact has no noise. Each returns the gradient [B, ..., C], the value [B] and the evaluations of f.
"""

import tensorflow as tf

from rebar.core import categorical, logit_gradients, straight_through
from rebar.errors import RebarError

MAX_CODES = 2**16
"""The most codes that `exact` goes through, C^L for L latent variables a row."""


def exact(f, logits) -> tuple:
    """By enumeration: one evaluation of f, on all rows, for each code.

    Raises:
      RebarError: more than MAX_CODES codes.
    """
    variables, n_categories = logits.shape[1:-1].num_elements(), logits.shape[-1]
    if variables is None:
        raise RebarError("exact needs to know the number of latent variables a row beforehand")
    n_codes = n_categories**variables
    if n_codes > MAX_CODES:
        raise RebarError(
            f"exact would go through {n_categories}^{variables} codes; it goes to {MAX_CODES}. "
            "Take fewer latent variables, or loo with many samples"
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


def reinforce(f, logits, uniforms) -> tuple:
    """uniforms [B, ..., C]."""
    one_hot = categorical.hard_sample(logits, categorical.gumbels(uniforms))
    value = f(one_hot)
    return straight_through.reinforce(logits, one_hot, tf.stop_gradient(value)), value, 1


def leave_one_out(f, logits, uniforms) -> tuple:
    """uniforms [K, B, ..., C]."""
    samples = [
        categorical.hard_sample(logits, categorical.gumbels(u)) for u in tf.unstack(uniforms)
    ]
    values = tf.stack([f(one_hot) for one_hot in samples])
    signals = logit_gradients.leave_one_out(tf.stop_gradient(values))
    terms = [
        straight_through.reinforce(logits, one_hot, signal)
        for one_hot, signal in zip(samples, tf.unstack(signals), strict=True)
    ]
    return tf.add_n(terms) / len(terms), tf.reduce_mean(values, axis=0), len(terms)
