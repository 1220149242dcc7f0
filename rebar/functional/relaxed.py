"""A control variate from relaxed samples: REBAR's form for one layer, for ascent.

With logits l, p = sigmoid(l), noise zeta = log u - log(1 - u), b = 1[l + zeta > 0], zeta~ the noise
drawn anew given b, and any differentiable c(l, zeta),

    g = (f(b) - c(l, zeta~)) (b - p)  +  d c(l, zeta)/dl  -  d c(l, zeta~)/dl

d/dl is total at fixed b and at fixed uniforms of zeta and zeta~. Unbiased for the derivative of
E f: zeta and zeta~ have one distribution, so E d c(l, zeta)/dl = d E c(l, zeta~)/dl, which is
E [ d c(l, zeta~)/dl + c(l, zeta~) (b - p) ].

zeta~ may use a uniform w of its own, or the one with which zeta~ = zeta, which given b is uniform,
too. Then the terms along zeta~ and zeta differ only in the path through the noise, and

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
    """g of the module's docstring: [B, H], differentiable by what f and `terms` hold.

    Args:
      f: [B] values at b.
      b, u, logits: [B, H] hard samples, their uniforms, and logits; constants.
      terms: (logits [B, H], zeta [B, H]) -> name -> [B], whose sum is c.
      w: [B, H] uniforms of zeta~; zeta~ = zeta if not given.

    Raises:
      RebarError: one of the terms has no derivative by zeta.
    """
    zeta, score = bernoulli.logistic(u), b - tf.sigmoid(logits)
    c, by_logits, by_zeta = _differentiate(terms, logits, zeta)
    if w is None:
        path = -bernoulli.coupling_derivative(b, u, logits) * by_zeta
    else:
        given_b, derivative = noise_given_sample(b, w, logits)
        total = by_logits
        c, by_logits, by_zeta = _differentiate(terms, logits, given_b)
        path = total - (by_logits + derivative * by_zeta)
    return (f - c)[:, tf.newaxis] * score + path


def noise_given_sample(b: tf.Tensor, w: tf.Tensor, logits: tf.Tensor) -> tuple:
    """zeta~, logistic noise drawn given b, and d zeta~/dl at fixed w; [B, H] each.

    With t = sigmoid(-l): zeta~ = logit v, v = t + (1 - t) w if b = 1, v = t w if b = 0. Both v and
    1 - v are sums and products of positive numbers, so saturated units lose no digits.
    """
    on, t, p = b > 0.5, tf.sigmoid(-logits), tf.sigmoid(logits)
    v_if_on = t + p * w
    rest_if_off = p + t * (1 - w)
    log_v = tf.where(on, tf.math.log(v_if_on), tf.math.log(w) - bernoulli.softplus(logits))
    log_rest = tf.where(
        on, tf.math.log1p(-w) - bernoulli.softplus(-logits), tf.math.log(rest_if_off)
    )
    return log_v - log_rest, -tf.where(on, t / v_if_on, p / rest_if_off)


def _differentiate(terms: Callable, logits: tf.Tensor, zeta: tf.Tensor) -> tuple:
    """c [B] and its derivatives by logits, without the path through zeta, and by zeta, [B, H]."""
    # Tensors of their own: what else the caller computes from the logits is a constant here.
    logits, zeta = tf.identity(logits), tf.identity(zeta)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch([logits, zeta])
        values = terms(logits, zeta)
    by_logits, by_zeta = [], []
    for name, value in values.items():
        parts = tape.gradient(value, [logits, zeta])
        require_derivative(parts[1], name)
        by_logits.append(parts[0])
        by_zeta.append(parts[1])
    return tf.add_n(list(values.values())), tf.add_n(by_logits), tf.add_n(by_zeta)
