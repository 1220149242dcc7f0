"""Products with J, the Jacobian of the hard posterior logits with respect to q's parameters.

REBAR's gradient is g = J' (a + eta c) for cotangents a, c of the logits (L x [N, H]) and a scale
eta for each weight tensor, and the gradient of mean g^2 needs J g (docs/design.md). Two ways to the
same numbers:

  by_autodiff   any network: reverse mode for J', twice reverse for J
  by_inputs     linear maps of known inputs A: J' d = A' d, and J J' d = (A A') d needs only
                products of the size of the batch, none of the size of the parameters
"""

from typing import NamedTuple

import tensorflow as tf

from rebar.core import gradients


class Products(NamedTuple):
    """What both ways return; lists over q's V variables or over the L layers.

    Attributes:
      g: V tensors, J' (a + eta c).
      inner_with_h: V scalars, <g_v, (J' c)_v>.
      along_g: L x [N, H], J g.
      along_scaled_g: L x [N, H], J (eta g).
    """

    g: list
    inner_with_h: list
    along_g: list
    along_scaled_g: list


def by_autodiff(logits_of, variables, a, c, etas) -> Products:
    """For any network.

    Args:
      logits_of: () -> L x [N, H], the hard posterior logits as a function of `variables`.
      variables: V variables of q.
      a, c: L x [N, H] cotangents.
      etas: V scalars.
    """
    with tf.GradientTape(persistent=True) as tape:
        logits = logits_of()

    def pullback(cotangents):
        return gradients.gradient_or_zero(tape, logits, variables, cotangents)

    f_part, h_part = pullback(a), pullback(c)
    g = [f + eta * h for f, eta, h in zip(f_part, etas, h_part, strict=True)]
    scaled = [eta * value for eta, value in zip(etas, g, strict=True)]
    inner = [gradients.inner([u], [v]) for u, v in zip(g, h_part, strict=True)]
    along = [gradients.transpose(pullback, logits, tangents) for tangents in (g, scaled)]
    return Products(g, inner, *along)


def by_inputs(inputs, a, c, etas) -> Products:
    """For layers logits_l = A_l W_l + b_l.

    Args:
      inputs: L x [N, n], the A_l.
      a, c: L x [N, H] cotangents.
      etas: 2 L scalars, of W_0, b_0, W_1, b_1, ...
    """
    products = Products([], [], [], [])
    for layer, (matrix, a_l, c_l) in enumerate(zip(inputs, a, c, strict=True)):
        eta_w, eta_b = etas[2 * layer : 2 * layer + 2]
        d = a_l + eta_w * c_l
        g_w = tf.matmul(matrix, d, transpose_a=True)
        g_b = tf.reduce_sum(a_l + eta_b * c_l, axis=0)
        if matrix.shape[0] is not None and matrix.shape[0] < d.shape[1]:
            through_w = tf.matmul(tf.matmul(matrix, matrix, transpose_b=True), d)
        else:
            through_w = tf.matmul(matrix, g_w)
        products.g.extend([g_w, g_b])
        products.inner_with_h.extend(
            [tf.reduce_sum(through_w * c_l), tf.reduce_sum(g_b * tf.reduce_sum(c_l, axis=0))]
        )
        products.along_g.append(through_w + g_b)
        products.along_scaled_g.append(eta_w * through_w + eta_b * g_b)
    return products
