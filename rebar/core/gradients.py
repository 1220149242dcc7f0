"""Gradients as lists of tensors: score-function gradients, norms and products."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from rebar.errors import RebarError
from rebar.types import Rollout

STRIPS = 8


def _register_update_slice():
    """Register the derivative of the operation that XLA uses for the derivative of a slice.

    TensorFlow has none, so that an objective with a slice, e.g. b[:, 0], had no second derivative.
    """

    def derivative(op, upstream):
        update, start = op.inputs[1], op.inputs[2]
        end = tf.shape(upstream) - start - tf.shape(update)
        updated = tf.pad(tf.ones_like(update), tf.stack([start, end], axis=1))
        return upstream * (1 - updated), tf.slice(upstream, start, tf.shape(update)), None

    with contextlib.suppress(KeyError):  # in case that a later TensorFlow has it
        tf.RegisterGradient("XlaDynamicUpdateSlice")(derivative)


_register_update_slice()


def score_gradient(
    tape: tf.GradientTape,
    rollout: Rollout,
    signals: Sequence[tf.Tensor],
    variables: Sequence,
    linear_terms: Sequence[tf.Tensor] = (),
) -> list:
    """- mean_n [ sum_l signal_l d log q_l  +  d log_joint  +  sum_l linear_l . d logits_l ].

    The learning signals enter as cotangents, so no gradient flows through them.

    Args:
      tape: tape that recorded `rollout`.
      rollout: at hard samples, N rows.
      signals: L x [N] learning signals, one per layer; or one for all layers.
      variables: variables to differentiate with respect to.
      linear_terms: L x [N, H] cotangents of the logits (control variates with a known mean).

    Returns:
      Gradients aligned with `variables`; zeros for unused ones.
    """
    for layer, signal in enumerate(signals):
        require_rank(signal, 1, f"the learning signal of layer {layer}")
    rows = tf.cast(tf.shape(rollout.objective)[0], rollout.objective.dtype)
    if len(signals) == 1:
        signals = list(signals) * len(rollout.log_q)
    targets = [*rollout.log_q, rollout.log_joint]
    cotangents = [*(-s / rows for s in signals), -tf.ones_like(rollout.log_joint) / rows]
    if linear_terms:
        targets += rollout.logits
        cotangents += [-term / rows for term in linear_terms]
    return gradient_or_zero(tape, targets, variables, cotangents)


def logit_gradient(
    tape: tf.GradientTape, rollout: Rollout, cotangents: Sequence[tf.Tensor], variables: Sequence
) -> list:
    """- mean_n [ sum_l cotangent_l . d logits_l  +  d log_joint ].

    Args:
      tape: tape that recorded `rollout`.
      rollout: at hard samples, N rows.
      cotangents: L x [N, H], estimates of d E f / d logits, for ascent.
      variables: variables to differentiate with respect to.

    Returns:
      Gradients aligned with `variables`; zeros for unused ones.
    """
    rows = tf.cast(tf.shape(rollout.objective)[0], rollout.objective.dtype)
    return gradient_or_zero(
        tape,
        [*rollout.logits, rollout.log_joint],
        variables,
        [*(-c / rows for c in cotangents), -tf.ones_like(rollout.log_joint) / rows],
    )


class Everything(tuple):
    """All variables on which targets depend, without knowing them."""


EVERYTHING = Everything()
"""Instead of a list of variables: the gradient is one scalar loss that has it, see `loss_of`."""


def loss_of(targets: Any, cotangents: Any = None) -> tf.Tensor:
    """Return a scalar, 0, whose gradient is sum_i cotangent_i . d target_i.

    The cotangents, by default ones, are constants for its gradient.
    """
    targets = tf.nest.flatten(targets)
    if not targets:
        return tf.zeros([])
    cotangents = [tf.ones_like(t) for t in targets] if cotangents is None else cotangents
    cotangents = [tf.stop_gradient(c) for c in tf.nest.flatten(cotangents)]

    @tf.custom_gradient
    def scalar(*values):
        zero = tf.zeros([], targets[0].dtype)

        def backward(upstream):
            pairs = zip(cotangents, values, strict=True)
            return [_first_order(tf.cast(upstream, c.dtype) * c, v) for c, v in pairs]

        return zero, backward

    return scalar(*targets)


@tf.custom_gradient
def _first_order(cotangent, target):
    """Return the cotangent; raise RebarError if it is differentiated, a function of its target."""
    del target

    def backward(_):
        raise RebarError(
            "second derivatives of a loss of rebar.estimate: unsupported; differentiate it once"
        )

    return tf.identity(cotangent), backward


def gradient_or_zero(
    tape: tf.GradientTape, targets: Any, variables: Sequence, cotangents: Any = None
) -> list:
    """tape.gradient with zeros for variables on which the targets do not depend.

    TensorFlow's `unconnected_gradients` fails on Keras variables. With EVERYTHING as the variables
    it is one scalar loss, see `loss_of`.
    """
    if isinstance(variables, Everything):
        return [loss_of(targets, cotangents)]
    gradients = tape.gradient(targets, variables, cotangents)
    return [
        tf.zeros(v.shape, v.dtype) if g is None else g
        for g, v in zip(gradients, variables, strict=True)
    ]


def variable_name(variable: Any) -> str:
    """Return the path of a Keras variable, or the name of a plain one."""
    return getattr(variable, "path", None) or variable.name.removesuffix(":0")


def variable_names(variables: Sequence) -> list[str]:
    """Return a unique name per variable."""
    names = list(map(variable_name, variables))
    return [n if names.count(n) == 1 else f"{n}_{i}" for i, n in enumerate(names)]


def require_rank(value: tf.Tensor, rank: int, name: str) -> None:
    """Raise RebarError if `value` has another rank, which would broadcast silently."""
    if value.shape.rank not in (rank, None):
        expected = ("[]", "[N]", "[K, B]")[rank]
        raise RebarError(
            f"{name} has shape {value.shape}: must be {expected}; sum over other axes, or remove "
            "one of length 1 with tf.squeeze(..., axis=-1)"
        )


def transpose(
    pullback: Callable, shapes: Sequence[tf.Tensor], tangents: Sequence[tf.Tensor]
) -> list:
    """Product J t with a Jacobian J from its transposed products J' u: d <J' u, t> / du.

    J' u is linear in u, so terms of u alone are pruned from a graph. tf.autodiff's
    ForwardAccumulator works operation by operation and multiplies weights by zero tangents.

    Args:
      pullback: u -> J' u, lists of tensors aligned with `shapes` and `tangents`.
      shapes: tensors shaped like J's outputs.
      tangents: t, shaped like J's inputs.
    """
    u = [tf.zeros_like(value) for value in shapes]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(u)
        products = pullback(u)
    return gradient_or_zero(tape, products, u, tangents)


def inner(a: Sequence[tf.Tensor], b: Sequence[tf.Tensor]) -> tf.Tensor:
    """Inner product <a, b> of two aligned lists; a scalar."""
    return tf.add_n([tf.reduce_sum(x * y) for x, y in zip(a, b, strict=True)])


def count(values: Sequence[tf.Tensor]) -> int:
    """P, the number of components of a list of tensors or variables of static shape."""
    return sum(math.prod(value.shape) for value in values)


def mean_square(values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Mean square of all components; a scalar."""
    return tf.add_n(sums_of_squares(values)) / count(values)


def sums_of_squares(values: Sequence[tf.Tensor]) -> list:
    """`sum_of_squares` per tensor."""
    return [sum_of_squares(v) for v in values]


def sum_of_squares(value: tf.Tensor) -> tf.Tensor:
    """Sum of the squares of a tensor of static shape; a scalar.

    XLA does not reorder additions, so on a CPU it reduces one number at a time. Adding strips of a
    large tensor first is vectorized and nine times as fast.
    """
    size = count([value])
    if size % STRIPS or size < 1000 * STRIPS:
        return 2 * tf.nn.l2_loss(value)
    strips = tf.unstack(tf.reshape(tf.square(value), [STRIPS, size // STRIPS]))
    return tf.reduce_sum(tf.add_n(strips))
