"""Arguments of the functional interface, converted to tensors and validated."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core.straight_through import FromUniforms, FromWords
from rebar.core.validity import Validity
from rebar.errors import RebarError, integer

_SAMPLES, _DRAWS, _FRESH = range(3)
_MOST = 2**20

FORMS: dict[str, tuple] = {
    "bernoulli": (lambda shape: shape.rank in (1, 2), "[B, H] or [H]"),
    "categorical": (
        lambda shape: (shape.rank or 0) >= 2 and (shape[-1] or 0) >= 2,
        "[B, ..., C] with C >= 2 categories",
    ),
}
"""Family -> test and description of the shapes of its logits."""

_NO_DERIVATIVE = (
    "{} has no derivative with respect to its samples; use differentiable TensorFlow operations, "
    "without NumPy, casts to integers, stop_gradient or sampling, or a method that needs values "
    "only: exact, reinforce, loo, relax with relaxed_f=False; for binary latents arm, disarm, "
    "arms, leg; for categorical ones e.g. disarm_sb, carms, unord, indecater"
)


def tensor(value: Any, name: str, dtype: Any = None) -> tf.Tensor:
    """Convert to a tensor; Python and NumPy numbers without rounding to float32 first.

    Raises:
      RebarError: the argument `name` does not consist of real numbers.
    """
    try:
        if isinstance(value, numbers.Real | np.ndarray | list | tuple):
            return tf.constant(value, dtype)
        result = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise RebarError(
            f"{name}={repr(value)[:60]}: must be a number or an array of numbers"
        ) from error
    if dtype is None:
        return result
    if not (result.dtype.is_floating or result.dtype.is_integer or result.dtype.is_bool):
        raise RebarError(f"{name} of type {result.dtype.name}: must be real numbers")
    return tf.cast(result, dtype)


def shape_text(shape: Any) -> str:
    """Format a shape, e.g. [4, ?, 3]."""
    dimensions = tf.TensorShape(shape)
    if dimensions.rank is None:
        return "unknown"
    return f"[{', '.join('?' if n is None else str(n) for n in dimensions)}]"


def shaped(values: tf.Tensor, like: tf.Tensor, *leading: int) -> tf.Tensor:
    """Reshape to [*leading, *shape of `like`]."""
    shape = tf.concat([tf.constant(leading, tf.int32), tf.shape(like)], axis=0)
    return tf.ensure_shape(tf.reshape(values, shape), [*leading, *like.shape])


def logits_of(value: Any, suits: Callable[[tf.TensorShape], bool], form: str) -> tf.Tensor:
    """Convert logits to a tensor of float32 or float64.

    Args:
      value: logits of any type.
      suits: test of a shape.
      form: description of valid shapes.
    """
    logits = tensor(value, "logits")
    if logits.dtype not in (tf.float32, tf.float64):
        raise RebarError(
            f"logits of type {logits.dtype.name}: must be float32 or float64; use "
            "tf.cast(logits, tf.float32)"
        )
    if not suits(logits.shape):
        raise RebarError(f"logits of shape {shape_text(logits.shape)}: must be {form}")
    return logits


def require_numbers(logits: tf.Tensor, validity: Validity) -> None:
    """Refuse logits that are NaN."""
    validity.require(
        logits, lambda v: v == v, lambda _: "logits: NaN; find where they become non-finite"
    )


def uniforms_of(
    value: Any, name: str, shape: tf.Tensor, static: Any, validity: Validity, dtype: Any
) -> tf.Tensor:
    """Convert and validate uniforms passed by the user.

    Args:
      value, name: the argument and its name.
      shape, static: expected shape, as a tensor and as a list with None for unknown axes.
      validity: conditions of the call.
      dtype: dtype of the logits.
    """
    uniforms = tensor(value, name, dtype)
    if uniforms.shape.rank is None or not uniforms.shape.is_compatible_with(static):
        raise RebarError(
            f"{name} of shape {shape_text(uniforms.shape)}: must be uniforms of shape "
            f"{shape_text(static)}, which follows from the logits"
        )
    validity.require(
        uniforms,
        lambda v: (v > 0) & (v < 1),
        lambda v: f"{name} in [{np.min(v):g}, {np.max(v):g}]: must be uniforms in (0, 1)",
    )
    _require_shape(uniforms, shape, name, validity)
    return tf.ensure_shape(uniforms, static)


def _require_shape(value: tf.Tensor, shape: tf.Tensor, name: str, validity: Validity) -> None:
    """Require a shape that is known at run time only."""
    if not value.shape.is_fully_defined() or tf.get_static_value(shape) is None:
        validity.require(
            tf.shape(value),
            lambda s: tf.equal(s, shape),
            lambda s: f"{name} of shape {s}: invalid",
        )


def option_of(
    value: Any, name: str, rows: tf.Tensor, validity: Validity, *shapes: Any, above_0: bool = False
) -> tf.Tensor:
    """Convert and validate a finite option: a scalar, or a tensor of one of some shapes.

    Args:
      value, name: the argument and its name.
      rows: logits; the option gets their dtype.
      validity: conditions of the call.
      *shapes: lists of axes of `rows`, or None for an axis of length 1.
      above_0: require a positive value.
    """
    option = tensor(value, name, rows.dtype)
    static = [[1 if axis is None else rows.shape[axis] for axis in shape] for shape in shapes]
    if not any(option.shape.is_compatible_with(shape) for shape in ([], *static)):
        allowed = " or ".join(["a scalar", *map(shape_text, static)])
        raise RebarError(f"{name} of shape {shape_text(option.shape)}: must be {allowed}")
    validity.require(
        option,
        lambda v: (abs(v) < np.inf) & ((v > 0) if above_0 else (v == v)),
        lambda v: f"{name}={np.min(v):g}: must be {'above 0 and ' * above_0}finite",
    )
    if option.shape.rank and None in [*option.shape, *rows.shape]:
        sizes = tf.shape(rows)
        dynamic = [[1 if axis is None else sizes[axis] for axis in shape] for shape in shapes]
        candidates = [shape for shape in dynamic if len(shape) == option.shape.rank]
        validity.require(
            tf.shape(option),
            lambda s: tf.reduce_any([tf.reduce_all(tf.equal(s, c)) for c in candidates]),
            lambda s: f"{name} of shape {s}: invalid",
        )
    return option


def values_of(function: Callable, name: str, samples: tf.Tensor) -> tf.Tensor:
    """Return function(samples [B, ...]), which must be [B], in the dtype of the samples.

    Its derivative with respect to the samples is validated when it is computed.
    """
    if not callable(function):
        raise RebarError(f"{name}={function!r}: must be a function of the samples")
    values = function(_with_checked_derivative(samples, name))
    returned = "None"
    if values is not None:
        values = tf.convert_to_tensor(values)
        if values.shape.rank == 1 and values.shape.is_compatible_with(samples.shape[:1]):
            # A separate one: f may be called in a loop, whose tensors must not leave it.
            validity = Validity()
            _require_shape(values, tf.shape(samples)[:1], name, validity)
            return validity.apply(tensor(values, f"result of {name}", samples.dtype))
        returned = shape_text(values.shape)
    raise RebarError(
        f"result of {name} of shape {returned}: must be one number per row, shape "
        f"{shape_text(samples.shape[:1])}, for samples of shape {shape_text(samples.shape)}; sum "
        "over other axes, remove one of length 1 with tf.squeeze(values, axis=-1), or set an "
        "unknown shape with tf.ensure_shape(values, samples.shape[:1])"
    )


def require_derivative(derivative: tf.Tensor | None, name: str) -> None:
    """Raise RebarError if the function `name` has no derivative with respect to its samples."""
    if derivative is None:
        raise RebarError(_NO_DERIVATIVE.format(name))


def _with_checked_derivative(samples: tf.Tensor, name: str) -> tf.Tensor:
    """Return the samples with a validated derivative.

    The derivative of a tf.py_function that is not differentiable has another shape.
    """

    @tf.custom_gradient
    def identity(value):
        def backward(derivative):
            message = _NO_DERIVATIVE.format(name)
            if not derivative.shape.is_compatible_with(value.shape):
                raise RebarError(message)
            if derivative.shape.rank is None:
                rank = tf.debugging.assert_rank(derivative, value.shape.rank, message)
                with tf.control_dependencies([rank]):
                    derivative = tf.identity(derivative)
            return derivative

        return tf.identity(value), backward

    return identity(samples)


def number_of(
    value: Any, name: str, logits: tf.Tensor, validity: Validity, above_0: bool = False
) -> Any:
    """Convert a finite number to a float, or to a scalar tensor without a gradient."""
    option = tf.stop_gradient(option_of(value, name, logits, validity, above_0=above_0))
    return float(value) if isinstance(value, numbers.Real) else option


def count_of(value: Any, name: str, least: int) -> int:
    """Return an integer that must be from `least` to 2^20."""
    return integer(value, name, least, _MOST)


def switch_of(value: Any, name: str) -> bool:
    """Return a boolean."""
    if not isinstance(value, bool | np.bool_):
        raise RebarError(f"{name}={value!r}: must be True or False")
    return bool(value)


def form_of(value: Any, forms: Sequence[str]) -> str:
    """Return a form that must be one of `forms`."""
    if value not in forms:
        raise RebarError(f"form={value!r}: choose from {', '.join(forms)}")
    return value


class NoiseSource:
    """Uniforms of one call: drawn from a seed and a step, or passed by the user.

    Args:
      logits: [..., C], or [..., H] of binary units.
      noise: uniforms shaped like the logits, or None; [K, ..., C] for several samples.
      seed, step: numbers that determine the noise if noise is None.
      validity: conditions of the call.
    """

    def __init__(
        self, logits: tf.Tensor, noise: Any, seed: Any, step: Any, validity: Validity
    ) -> None:
        self.logits, self.noise, self.seed, self.step = logits, noise, seed, step
        self._validity = validity
        if noise is not None and not (seed is None and step is None):
            raise RebarError(
                "noise, seed and step: must not be combined; pass noise, or seed and step"
            )

    def samples(self, count: int | None = None) -> tf.Tensor:
        """Return uniforms [..., C] of the sample, or [count, ..., C] of several."""
        return self._uniforms(self.noise, "noise", _SAMPLES, count)

    def draws(self, count: int, uniforms: Any) -> FromUniforms | FromWords:
        """Return the noise of `count` draws conditional on the sample."""
        if uniforms is None and self.noise is None and self.logits.dtype == tf.float32:
            shape = tf.concat([[(count + 1) // 2], tf.shape(self.logits)], axis=0)
            words = noise_module.words(self._key(_DRAWS), shape)
            return FromWords(tf.ensure_shape(words, [(count + 1) // 2, *self.logits.shape]), count)
        return FromUniforms(self._uniforms(uniforms, "draws_noise", _DRAWS, count))

    def fresh(self, uniforms: Any) -> tf.Tensor:
        """Return uniforms [..., C] of independent Gumbels."""
        return self._uniforms(uniforms, "fresh_noise", _FRESH, None)

    def custom(self, uniforms: Any, name: str) -> tf.Tensor:
        """Return uniforms passed by the user, shaped like the logits."""
        return self._uniforms(uniforms, name, _SAMPLES, None)

    def _key(self, purpose):
        if self.seed is None or self.step is None:
            raise RebarError(
                "seed and step: missing; pass seed=0, step=i, where i changes from call to call, "
                "or noise=uniforms shaped like the logits"
            )
        position = [] if purpose == _SAMPLES else [purpose]
        return noise_module.fold_in(noise_module.key(self.seed, "latents", *position), self.step)

    def _uniforms(self, uniforms, name, purpose, count):
        shape, dtype = self.logits.shape, self.logits.dtype
        leading = [] if count is None else [count]
        if uniforms is None and self.noise is not None:
            raise RebarError(
                f"{name}: missing; pass uniforms of shape {shape_text([*leading, *shape])} in "
                "addition to noise, or seed and step instead of both"
            )
        expected = tf.concat([tf.constant(leading, tf.int32), tf.shape(self.logits)], axis=0)
        if uniforms is None:
            drawn = noise_module.uniforms(self._key(purpose), expected, dtype)
            return tf.ensure_shape(drawn, [*leading, *shape])
        return uniforms_of(uniforms, name, expected, [*leading, *shape], self._validity, dtype)
