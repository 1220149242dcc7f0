"""Control variates from relaxed samples: REBAR's form for one layer, for ascent.

With logits l, p = sigmoid(l), noise zeta = log u - log(1 - u), b = 1[l + zeta > 0], zeta~ the noise
redrawn given b, and any differentiable c(l, zeta),

    g = (f(b) - c(l, zeta~)) (b - p)  +  d c(l, zeta)/dl  -  d c(l, zeta~)/dl

d/dl is total at fixed b and at fixed uniforms of zeta and zeta~. Unbiased for the derivative of
E f: zeta and zeta~ have one distribution, so E d c(l, zeta)/dl = d E c(l, zeta~)/dl, which is
E [ d c(l, zeta~)/dl + c(l, zeta~) (b - p) ].

zeta~ may use an independent uniform w, or that with zeta~ = zeta, which is also uniform given b.
In the latter case the terms differ only in the path through the noise, and

    g = (f(b) - c(l, zeta)) (b - p) - r dc/dzeta,    r = `bernoulli.coupling_derivative`

Source: Tucker et al. 2017 (arXiv 1703.07370), equations 7 and 9; Grathwohl et al. 2018 (arXiv
1711.00123), equation 9.
"""

from collections.abc import Callable

import tensorflow as tf

from rebar.core import bernoulli
from rebar.functional.arguments import require_derivative


def with_control_variate(
    f: tf.Tensor,
    b: tf.Tensor,
    u: tf.Tensor,
    logits: tf.Tensor,
    terms: Callable,
    w: tf.Tensor | None = None,
) -> tf.Tensor:
    """g [B, H], differentiable w.r.t. the variables of f and `terms`.

    Args:
      f: [B] values at b.
      b, u, logits: [B, H] hard samples, their uniforms, and logits; constants.
      terms: (logits [B, H], zeta [B, H]) -> name -> [B], whose sum is c.
      w: [B, H] uniforms of zeta~; None for zeta~ = zeta.

    Raises:
      RebarError: one of the terms has no derivative w.r.t. zeta.
    """
    zeta, score = bernoulli.logistic(u), b - tf.sigmoid(logits)
    c, d_logits, d_zeta = _differentiate(terms, logits, zeta)
    if w is None:
        path = -bernoulli.coupling_derivative(b, u, logits) * d_zeta
    else:
        zeta_b, derivative = noise_given_sample(b, w, logits)
        total = d_logits
        c, d_logits, d_zeta = _differentiate(terms, logits, zeta_b)
        path = total - (d_logits + derivative * d_zeta)
    return (f - c)[:, tf.newaxis] * score + path


def noise_given_sample(b: tf.Tensor, w: tf.Tensor, logits: tf.Tensor) -> tuple:
    """zeta~, logistic noise conditional on b, and d zeta~/dl at fixed w; [B, H] each.

    With t = sigmoid(-l): zeta~ = logit v, v = t + (1 - t) w if b = 1, v = t w if b = 0. v and 1 - v
    are sums and products of positive numbers, so saturated units lose no digits.
    """
    on, t, p = b > 0.5, tf.sigmoid(-logits), tf.sigmoid(logits)
    v_if_on = t + p * w
    complement_if_off = p + t * (1 - w)
    log_v = tf.where(on, tf.math.log(v_if_on), tf.math.log(w) - bernoulli.softplus(logits))
    log_complement = tf.where(
        on, tf.math.log1p(-w) - bernoulli.softplus(-logits), tf.math.log(complement_if_off)
    )
    return log_v - log_complement, -tf.where(on, t / v_if_on, p / complement_if_off)


def _differentiate(terms: Callable, logits: tf.Tensor, zeta: tf.Tensor) -> tuple:
    """c [B], dc/dlogits without the path through zeta, and dc/dzeta, [B, H]."""
    # New tensors: other functions of the logits are constants here.
    logits, zeta = tf.identity(logits), tf.identity(zeta)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch([logits, zeta])
        values = terms(logits, zeta)
    d_logits, d_zeta = [], []
    for name, value in values.items():
        parts = tape.gradient(value, [logits, zeta])
        require_derivative(parts[1], name)
        d_logits.append(parts[0])
        d_zeta.append(parts[1])
    return tf.add_n(list(values.values())), tf.add_n(d_logits), tf.add_n(d_zeta)
