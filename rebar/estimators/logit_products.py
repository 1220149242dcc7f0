"""Gradients of REBAR and RELAX with respect to weights or logits, and of their mean square.

With J the Jacobian of the hard posterior logits with respect to q's parameters, REBAR's gradient is
g = J' (F + eta H) + a for cotangents F, H of the logits (L x [N, ...]), from the f-part and the
h-part, a scale eta per parameter tensor, and the dependence of f on q's parameters at fixed
samples, a; RELAX's is J' d + a. The gradient of mean g^2, which the control variates minimize,
needs J g (docs/design.md). Parameters and algorithms:

  weights, any network   reverse mode for J', twice reverse for J
  weights, linear maps   of inputs A, where a = 0: J' d = A' d, and J J' d = (A A') d, with products
                         of the size of the batch instead of the parameters
  logits of objectives   J = 1, with a row's logits as the parameters: mean over rows of g^2 / W for
                         W logits per row. An objective's weights are unknown.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from rebar.core import gradients
from rebar.noise import Noise
from rebar.types import Model, Rollout, capability


class Products(NamedTuple):
    """Result of `scaled`; lists over q's V parameter tensors or over the L layers.

    Attributes:
      g: V tensors, J' (F + eta H) + a.
      inner_with_h: V scalars, <g_v, (J' H)_v>.
      along_g: L x [N, ...], J g.
      along_scaled_g: L x [N, ...], J (eta g).
    """

    g: list
    inner_with_h: list
    along_g: list
    along_scaled_g: list


def parameter_names(model: Model) -> list[str]:
    """Return a name per parameter tensor: of each weight, or of each site of an objective."""
    sites = capability(model, "sites")
    return list(sites) if sites else gradients.variable_names(model.trainable_variables)


def space(
    model: Model, x: Any, noise: Noise, hard: Rollout, tape: tf.GradientTape
) -> "Weights | Logits":
    """Return the parameters of q: its weights, or the logits of an objective.

    Args:
      model, x, noise: of the estimate.
      hard: hard rollout of the same noise.
      tape: tape that recorded `hard`.
    """
    if capability(model, "sites"):
        return Logits(hard)
    return Weights(model, x, noise, hard, tape)


class Weights:
    """Weights of a model as parameters; arguments are those of `space`.

    Attributes:
      factor: 2 / P, for P weights.
    """

    def __init__(self, model, x, noise, hard, tape):
        self._model, self._variables = model, model.trainable_variables
        rows = tf.cast(tf.shape(hard.objective)[0], hard.objective.dtype)
        cotangent = -tf.ones_like(hard.log_joint) / rows
        self._direct = tape.gradient(hard.log_joint, self._variables, cotangent)
        direct = dict(zip(map(id, self._variables), self._direct, strict=True))
        self._of_q = [direct[id(v)] for v in model.inference_variables]
        self.factor = 2 / gradients.count(self._variables)
        linear_inputs = capability(model, "linear_inputs")
        self._inputs = None
        if linear_inputs is not None and all(a is None for a in self._of_q):
            self._inputs = linear_inputs(x, hard.samples, noise.n_samples)
        if self._inputs is None:
            with tf.GradientTape(persistent=True) as self._tape:
                self._logits = model.posterior_logits(x, hard.samples, noise.n_samples)

    def scaled(self, f_part: Sequence, h_part: Sequence, eta: tf.Tensor) -> Products:
        """Return products with scales eta [all weight tensors] and F, H, L x [N, ...]."""
        by_id = dict(zip(map(id, self._variables), tf.unstack(eta), strict=True))
        etas = [by_id[id(v)] for v in self._model.inference_variables]
        if self._inputs is not None:
            return _scaled_by_inputs(self._inputs, f_part, h_part, etas)
        of_f, of_h = self._pullback(f_part), self._pullback(h_part)
        g = self._with_direct([f + e * h for f, e, h in zip(of_f, etas, of_h, strict=True)])
        scaled_g = [e * value for e, value in zip(etas, g, strict=True)]
        inner = [gradients.inner([u], [v]) for u, v in zip(g, of_h, strict=True)]
        return Products(g, inner, self._along(g), self._along(scaled_g))

    def plain(self, d: list) -> tuple:
        """Return g = J' d + a (V tensors) and J g (L x [N, ...]) for cotangents d."""
        if self._inputs is None:
            g = self._with_direct(self._pullback(d))
            return g, self._along(g)
        g = []
        for matrix, d_l in zip(self._inputs, d, strict=True):
            g.extend([tf.matmul(matrix, d_l, transpose_a=True), tf.reduce_sum(d_l, axis=0)])
        along = [
            _through(matrix, d_l, g_w) + g_b
            for matrix, d_l, g_w, g_b in zip(self._inputs, d, g[::2], g[1::2], strict=True)
        ]
        return g, along

    def eta_gradient(self, inner: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return inner products [V] as a vector over all weight tensors, 0 for those of p."""
        by_id = dict(zip(map(id, self._model.inference_variables), inner, strict=True))
        zero = tf.zeros_like(inner[0])
        return tf.stack([by_id.get(id(v), zero) for v in self._variables])

    def gradients(self, g: Sequence[tf.Tensor]) -> list:
        """Return the model's gradients from those of q's variables."""
        by_id = dict(zip(map(id, self._model.inference_variables), g, strict=True))
        return [
            by_id.get(id(v), tf.zeros(v.shape, v.dtype) if value is None else value)
            for v, value in zip(self._variables, self._direct, strict=True)
        ]

    def _pullback(self, cotangents):
        variables = self._model.inference_variables
        return gradients.gradient_or_zero(self._tape, self._logits, variables, cotangents)

    def _along(self, tangents):
        return gradients.transpose(self._pullback, self._logits, tangents)

    def _with_direct(self, g):
        return [v if a is None else v + a for v, a in zip(g, self._of_q, strict=True)]


class Logits:
    """Logits of an objective's sites as parameters, of each row separately.

    Attributes:
      factor: 2 N / W, for N rows of W logits.
    """

    def __init__(self, hard: Rollout):
        self._hard = hard
        self._rows = tf.cast(tf.shape(hard.objective)[0], hard.objective.dtype)
        width = sum(math.prod(a.shape[1:]) for a in hard.logits)
        self.factor = 2 * self._rows / width

    def scaled(self, f_part: Sequence, h_part: Sequence, eta: tf.Tensor) -> Products:
        """Return products with a scale eta per site and F, H, L x [N, ...]."""
        etas = tf.unstack(eta)
        g = [f + e * h for f, e, h in zip(f_part, etas, h_part, strict=True)]
        inner = [gradients.inner([u], [v]) for u, v in zip(g, h_part, strict=True)]
        return Products(g, inner, g, [e * value for e, value in zip(etas, g, strict=True)])

    def plain(self, d: list) -> tuple:
        """Return g and J g, which are the cotangents."""
        return d, d

    def eta_gradient(self, inner: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return inner products as a vector over the sites."""
        return tf.stack(inner)

    def gradients(self, g: Sequence[tf.Tensor]) -> list:
        """Return the loss with these gradients with respect to the logits, see `loss_of`."""
        direct = -tf.ones_like(self._hard.log_joint) / self._rows
        return [gradients.loss_of([*self._hard.logits, self._hard.log_joint], [*g, direct])]


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
