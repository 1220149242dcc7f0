"""Products with J, the Jacobian of the hard posterior logits with respect to q's parameters.

REBAR's gradient is g = J' (F + eta H) + a for cotangents F, H of the logits (L x [N, ...]), from
the f-part and the h-part, a scale eta per weight tensor, and what f depends on q's parameters at
fixed samples, a (None for a parameter without such a path); RELAX's is J' d + a. The gradient of
mean g^2 needs J g (docs/design.md). Two equivalent algorithms:

  any network   reverse mode for J', twice reverse for J
  linear maps   of inputs A, without a: J' d = A' d, and J J' d = (A A') d, with products of the
                size of the batch instead of the parameters
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from rebar.core import gradients
from rebar.noise import Noise
from rebar.types import Model, Rollout, capability


class Products(NamedTuple):
    """Result of `scaled`; lists over q's V variables or over the L layers.

    Attributes:
      g: V tensors, J' (F + eta H) + a.
      inner_with_h: V scalars, <g_v, (J' H)_v>.
      along_g: L x [N, H], J g.
      along_scaled_g: L x [N, H], J (eta g).
    """

    g: list
    inner_with_h: list
    along_g: list
    along_scaled_g: list


def scaled(
    model: Model,
    x: tf.Tensor,
    noise: Noise,
    hard: Rollout,
    f_part: Sequence[tf.Tensor],
    h_part: Sequence[tf.Tensor],
    etas: list,
    direct: Sequence[tf.Tensor | None],
) -> Products:
    """Return products with scales etas [V], cotangents F, H, L x [N, ...], and a [V]."""
    inputs = _linear_inputs(model, x, noise, hard, direct)
    if inputs is not None:
        return _scaled_by_inputs(inputs, f_part, h_part, etas)
    logits, pullback = _pullback(model, x, noise, hard)
    of_f, of_h = pullback(f_part), pullback(h_part)
    g = [f + eta * h for f, eta, h in zip(of_f, etas, of_h, strict=True)]
    g = _with_direct(g, direct)
    scaled_g = [eta * value for eta, value in zip(etas, g, strict=True)]
    inner = [gradients.inner([u], [v]) for u, v in zip(g, of_h, strict=True)]
    along = [gradients.transpose(pullback, logits, tangents) for tangents in (g, scaled_g)]
    return Products(g, inner, *along)


def plain(
    model: Model,
    x: tf.Tensor,
    noise: Noise,
    hard: Rollout,
    d: list,
    direct: Sequence[tf.Tensor | None],
) -> tuple:
    """Return g = J' d + a (V tensors) and J g (L x [N, ...]) for cotangents d, and a [V]."""
    inputs = _linear_inputs(model, x, noise, hard, direct)
    if inputs is None:
        logits, pullback = _pullback(model, x, noise, hard)
        g = _with_direct(pullback(d), direct)
        return g, gradients.transpose(pullback, logits, g)
    g = []
    for matrix, d_l in zip(inputs, d, strict=True):
        g.extend([tf.matmul(matrix, d_l, transpose_a=True), tf.reduce_sum(d_l, axis=0)])
    along = [
        _through(matrix, d_l, g_w) + g_b
        for matrix, d_l, g_w, g_b in zip(inputs, d, g[::2], g[1::2], strict=True)
    ]
    return g, along


def _linear_inputs(model, x, noise, hard, direct):
    """Inputs A of q's layers if q is linear in them and a is 0, else None."""
    linear_inputs = capability(model, "linear_inputs")
    if linear_inputs is None or any(a is not None for a in direct):
        return None
    return linear_inputs(x, hard.samples, noise.n_samples)


def _with_direct(g, direct):
    return [v if a is None else v + a for v, a in zip(g, direct, strict=True)]


def _pullback(model, x, noise, hard):
    """Hard logits, and the function d -> J' d of their cotangents."""
    with tf.GradientTape(persistent=True) as tape:
        logits = model.posterior_logits(x, hard.samples, noise.n_samples)

    def pullback(cotangents):
        return gradients.gradient_or_zero(tape, logits, model.inference_variables, cotangents)

    return logits, pullback


def _through(matrix, d, product):
    """A A' d from A' d, or from A A' if there are fewer rows than units."""
    if matrix.shape[0] is not None and matrix.shape[0] < d.shape[1]:
        return tf.matmul(tf.matmul(matrix, matrix, transpose_b=True), d)
    return tf.matmul(matrix, product)


def _scaled_by_inputs(
    inputs: Sequence[tf.Tensor],
    f_part: Sequence[tf.Tensor],
    h_part: Sequence[tf.Tensor],
    etas: list,
) -> Products:
    """`scaled` for layers logits_l = A_l W_l + b_l; etas of W_0, b_0, W_1, b_1, ..."""
    weighted, g = [], []
    for layer, (matrix, f_l, h_l) in enumerate(zip(inputs, f_part, h_part, strict=True)):
        eta_w, eta_b = etas[2 * layer : 2 * layer + 2]
        weighted.append(f_l + eta_w * h_l)
        g.append(tf.matmul(matrix, weighted[-1], transpose_a=True))
        g.append(tf.reduce_sum(f_l + eta_b * h_l, axis=0))
    products = Products(g, [], [], [])
    for layer, (matrix, d, h_l) in enumerate(zip(inputs, weighted, h_part, strict=True)):
        eta_w, eta_b = etas[2 * layer : 2 * layer + 2]
        g_w, g_b = products.g[2 * layer : 2 * layer + 2]
        through_w = _through(matrix, d, g_w)
        products.inner_with_h.extend(
            [tf.reduce_sum(through_w * h_l), tf.reduce_sum(g_b * tf.reduce_sum(h_l, axis=0))]
        )
        products.along_g.append(through_w + g_b)
        products.along_scaled_g.append(eta_w * through_w + eta_b * g_b)
    return products
