"""Control variates from relaxed samples: REBAR's form for one layer, for ascent.

With logits l, noise zeta, the hard sample b of l + zeta, e = d log q(b) / dl = b - p, zeta~ the
noise redrawn given b, and any differentiable c(l, zeta),

    g = (f(b) - c(l, zeta~)) e  +  d c(l, zeta)/dl  -  d c(l, zeta~)/dl

d/dl is total at fixed b and at fixed uniforms of zeta and zeta~. Unbiased for the derivative of
E f: zeta and zeta~ have one distribution, so E d c(l, zeta)/dl = d E c(l, zeta~)/dl, which is
E [ d c(l, zeta~)/dl + c(l, zeta~) e ].

zeta~ may use independent uniforms v, or those with zeta~ = zeta, which are also uniform given b.
In the latter case the terms differ only in the path through the noise, and g is minus
`logit_gradients.relaxed_control` of c - f.

Source: Tucker et al. 2017 (arXiv 1703.07370), equations 7 and 9; Grathwohl et al. 2018 (arXiv
1711.00123), equation 9.
"""

from collections.abc import Callable

import tensorflow as tf

from rebar.core import families, logit_gradients
from rebar.functional.arguments import require_derivative


def with_control_variate(
    f: tf.Tensor,
    b: tf.Tensor,
    u: tf.Tensor,
    logits: tf.Tensor,
    terms: Callable,
    v: tf.Tensor | None = None,
) -> tf.Tensor:
    """g, shaped like the logits, differentiable w.r.t. the variables of f and `terms`.

    Args:
      f: [B] values at b.
      b, u, logits: [B, H] or [B, V, C] hard samples, their uniforms, and logits; constants.
      terms: (logits, zeta) -> name -> [B], whose sum is c.
      v: uniforms of zeta~, shaped like the logits; None for zeta~ = zeta.

    Raises:
      RebarError: one of the terms has no derivative w.r.t. zeta.
    """
    family = families.of(logits)
    c, d_logits, d_zeta = _differentiate(terms, logits, family.noise(u))
    if v is None:
        coupling = family.coupling(b, u, logits)
        return -logit_gradients.relaxed_control(c - f, d_zeta, family.score(b, logits), coupling)
    zeta, product = family.noise_given_sample(b, v, logits)
    total = d_logits
    c, d_logits, d_zeta = _differentiate(terms, logits, zeta)
    score = logit_gradients.reinforce(f - c, b, logits)
    return score + total - d_logits - product(d_zeta)


def _differentiate(terms: Callable, logits: tf.Tensor, zeta: tf.Tensor) -> tuple:
    """c [B], dc/dlogits without the path through zeta, and dc/dzeta, shaped like the logits."""
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
