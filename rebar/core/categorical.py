"""Categorical variables by their logits: likelihoods, samples, and noise conditional on a sample.

The last axis is the C categories, pi = softmax(logits), and samples D are one-hot:

    D = argmax(logits + G),   G = -log E,   E = -log u ~ Exp(1),   u ~ U(0, 1)

D does not depend on any estimator's temperature. All results are finite for logits up to 1e4 in
size, because only differences of logits are exponentiated.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from rebar.core import bernoulli
from rebar.core.validity import positive


def exponentials(u: tf.Tensor) -> tf.Tensor:
    """E = -log u from uniforms in (0, 1), positive and finite; same shape."""
    return -tf.math.log(u)


def halves(words: tf.Tensor, dtype: Any) -> tuple:
    """Two tensors of uniforms in (0, 1), 16 bits each, from 32-bit words; same shape.

    Drawing words is a large part of the cost of an average over many draws. -log u ranges from
    7e-6 to 12. The error of the mean of r = pi / (E + pi) is at most 1e-6 for any pi; relative to
    the mean, it is 1e-4 for pi = 1e-4 and 1/12 for pi = 1e-6.
    """
    high = tf.bitwise.right_shift(words, tf.constant(16, tf.uint32))
    low = tf.bitwise.bitwise_and(words, tf.constant(0xFFFF, tf.uint32))
    # Via int32, as in `noise.uniforms`.
    return tuple((tf.cast(tf.cast(h, tf.int32), dtype) + 0.5) * 2.0**-16 for h in (high, low))


def gumbels(u: tf.Tensor) -> tf.Tensor:
    """G = -log(-log u) from uniforms in (0, 1), finite; same shape."""
    return -tf.math.log(exponentials(u))


def perturbed(logits: tf.Tensor, gumbels: tf.Tensor) -> tf.Tensor:
    """logits - max(logits) + G: [..., C]. The shift keeps the digits of G at large logits."""
    return logits - tf.reduce_max(logits, axis=-1, keepdims=True) + gumbels


def hard_sample(logits: tf.Tensor, gumbels: tf.Tensor) -> tf.Tensor:
    """D [..., C] in the dtype of logits, without a gradient; NaN where logits or noise are NaN."""
    a = perturbed(logits, gumbels)
    index = tf.argmax(a, axis=-1, output_type=tf.int32)
    one_hot = tf.one_hot(index, logits.shape[-1], dtype=logits.dtype)
    invalid = tf.reduce_any(tf.math.is_nan(a), axis=-1, keepdims=True)
    return tf.stop_gradient(tf.where(invalid, tf.constant(np.nan, logits.dtype), one_hot))


def log_prob(one_hot: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """log pi at the sample in nats: [..., C] -> [...]."""
    return tf.reduce_sum(one_hot * tf.nn.log_softmax(logits), axis=-1)


def kl_to(logits: tf.Tensor, prior_logits: tf.Tensor) -> tf.Tensor:
    """KL(q || p) = sum_c q_c (log q_c - log p_c), in nats: [..., C] -> [...].

    Zeros are the uniform prior. The prior's shape must broadcast, e.g. [L, C].
    """
    log_q = tf.nn.log_softmax(logits)
    return tf.reduce_sum(tf.exp(log_q) * (log_q - tf.nn.log_softmax(prior_logits)), axis=-1)


def relaxed_sample(
    logits: tf.Tensor, gumbels: tf.Tensor, temperature: Any, muprop_relaxation: bool = True
) -> tf.Tensor:
    """Relaxed sample on the simplex, which tends to D as the temperature T tends to 0: [..., C].

    softmax((logits + G) / T), or softmax((logits + G) / T + logits T / (T + 1)), which tends to pi
    as T grows (`muprop_relaxation`, after `bernoulli.relaxed_sample`). T must be above 0.
    """
    temperature = positive(temperature, "temperature")
    a = (logits + gumbels) / temperature
    if muprop_relaxation:
        a += logits * (temperature / (temperature + 1))
    return tf.nn.softmax(a)


def coupling(one_hot: tf.Tensor, gumbels: tf.Tensor, logits: tf.Tensor) -> Callable:
    """Return the function g -> J' g, J = d G / d logits with G conditional on D: [..., C].

    Reparameterized by uniforms v, the perturbed logits c = logits + G given D = k are

        c_k = log Z - log(-log v_k),    c_i = -log( -log v_i / exp(logits_i) + exp(-c_k) )

    With v such that they have the values drawn, and w_i = exp(c_i - c_k) (1 at D, else below 1),

        dc_i / dlogits_j = 1[i = j] (1 - w_i) + w_i pi_j,    J' g = pi <w, g> - w g

    Source: derived from Maddison & Tarlow 2017, see `conditional_logits`; for two categories it is
    `bernoulli.coupling_derivative`.
    """
    c = perturbed(logits, gumbels)
    w = tf.exp(c - tf.reduce_sum(one_hot * c, axis=-1, keepdims=True))
    pi = tf.nn.softmax(logits)
    return lambda g: pi * tf.reduce_sum(w * g, axis=-1, keepdims=True) - w * g


def score(one_hot: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """d log_prob / d logits = D - pi: [..., C]."""
    return one_hot - tf.nn.softmax(logits)


def softmax_product(p: tf.Tensor, g: tf.Tensor) -> tf.Tensor:
    """J(p) g = p (g - <p, g>), the Jacobian of softmax at p times g: [..., C]."""
    return p * (g - tf.reduce_sum(p * g, axis=-1, keepdims=True))


def conditional_logits(logits: tf.Tensor, one_hot: tf.Tensor, exponentials: tf.Tensor) -> tf.Tensor:
    """c = logits + G with G redrawn conditional on argmax(c) = D: [..., C].

    With w = exp(logits) and Z = sum w,

        c_D = -log(E_D / Z),    c_j = -log(E_j / w_j + E_D / Z)

    (Paulus et al. 2021, arXiv 2010.04838, equation 8; Maddison & Tarlow 2017), computed as
    c_D - softplus(log E_j - log pi_j - log E_D).

    Args:
      logits, one_hot: [..., C].
      exponentials: [..., C] or, for K draws, [K, ..., C].
    """
    log_pi = tf.nn.log_softmax(logits)
    log_e = tf.math.log(exponentials)
    log_e_d = tf.reduce_sum(log_e * one_hot, axis=-1, keepdims=True)
    top = tf.reduce_logsumexp(logits, axis=-1, keepdims=True) - log_e_d
    below = bernoulli.softplus(log_e - log_pi - log_e_d)
    return top - (1 - one_hot) * below


def conditional_weights(
    log_pi: tf.Tensor, one_hot: tf.Tensor, exponentials: tf.Tensor, temperature: Any
) -> tf.Tensor:
    """Unnormalized softmax(c / T), c from `conditional_logits`: 1 at D, elsewhere at most 1.

    exp((c_j - c_D) / T) = r_j^(1/T),   r_j = pi_j E_D / (E_j + pi_j E_D)

    Args:
      log_pi: [..., C] normalized logits.
      one_hot: [..., C].
      exponentials: [..., C] or [K, ..., C].
      temperature: T; the Python number 1 needs no logarithm and no power.
    """
    others = 1 - one_hot
    pi = tf.exp(log_pi) * others
    e_d = tf.reduce_sum(exponentials * one_hot, axis=-1, keepdims=True)
    part = pi * e_d
    if is_one(temperature):
        return one_hot + part / (exponentials + part)
    # log r = log pi + log(E_D / (E + pi E_D)) stays finite where pi is too small for a float.
    log_r = log_pi + tf.math.log(e_d / (exponentials + part))
    return one_hot + others * tf.exp(log_r / temperature)


def is_one(temperature: Any) -> bool:
    """Return True for the Python number 1, for which formulas are shorter."""
    return isinstance(temperature, int | float) and temperature == 1
