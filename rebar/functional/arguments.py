"""Arguments of the functional interface: converted to tensors of the right shape, or refused."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core.straight_through import FromUniforms, FromWords
from rebar.core.validity import Validity
from rebar.errors import RebarError

_SAMPLES, _DRAWS, _FRESH = range(3)

_NO_DERIVATIVE = (
    "{} has no derivative with respect to its samples: this method needs one, made of TensorFlow "
    "operations on floats that do not sample from them, without NumPy, casts to integers or "
    "stop_gradient. Methods that need values only: reinforce, loo, and for binary latents arm, "
    "disarm"
)


def tensor(value: Any, name: str, dtype: Any = None) -> tf.Tensor:
    """A tensor; Python and NumPy numbers directly in that dtype, without a detour by float32.

    Raises:
      RebarError: what is called `name` is not made of real numbers.
    """
    try:
        if isinstance(value, numbers.Real | np.ndarray | list | tuple):
            return tf.constant(value, dtype)
        made = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        given = repr(value)[:60]
        raise RebarError(
            f"{name} must be a number or an array of numbers, given: {given}"
        ) from error
    if dtype is None:
        return made
    if not (made.dtype.is_floating or made.dtype.is_integer or made.dtype.is_bool):
        raise RebarError(f"{name} must be real numbers, given: {made.dtype.name}")
    return tf.cast(made, dtype)


def shape_text(shape: Any) -> str:
    """[4, ?, 3]."""
    dimensions = tf.TensorShape(shape)
    if dimensions.rank is None:
        return "unknown"
    return f"[{', '.join('?' if n is None else str(n) for n in dimensions)}]"


def logits_of(value: Any, suits: Callable[[tf.TensorShape], bool], form: str) -> tf.Tensor:
    """Logits as a tensor of float32 or float64.

    Args:
      value: as given.
      suits: whether a shape is accepted.
      form: the accepted shapes in words.
    """
    logits = tensor(value, "logits")
    if logits.dtype not in (tf.float32, tf.float64):
        raise RebarError(
            f"logits must be float32 or float64, given: {logits.dtype.name}; type "
            "tf.cast(logits, tf.float32)"
        )
    if not suits(logits.shape):
        raise RebarError(f"logits must be {form}, given: {shape_text(logits.shape)}")
    return logits


def require_numbers(logits: tf.Tensor, validity: Validity) -> None:
    """Refuse logits that are NaN."""
    validity.require(
        logits, lambda v: v == v, lambda _: "logits are NaN; find where they become non-finite"
    )


def uniforms_of(
    value: Any, name: str, shape: tf.Tensor, wanted: Any, validity: Validity, dtype: Any
) -> tf.Tensor:
    """Uniforms given by the user.

    Args:
      value, name: what was given, and as what.
      shape, wanted: the shape needed, as a tensor and as far as it is known.
      validity: of the call.
      dtype: that of the logits.
    """
    uniforms = tensor(value, name, dtype)
    if uniforms.shape.rank is None or not uniforms.shape.is_compatible_with(wanted):
        raise RebarError(
            f"{name} must be uniforms of shape {shape_text(wanted)}, as the logits are, given: "
            f"{shape_text(uniforms.shape)}"
        )
    validity.require(
        uniforms,
        lambda v: (v > 0) & (v < 1),
        lambda v: (
            f"{name} must be uniforms in (0, 1), given: a smallest of {np.min(v):g}, a "
            f"largest of {np.max(v):g}"
        ),
    )
    _require_shape(uniforms, shape, name, validity)
    return tf.ensure_shape(uniforms, wanted)


def _require_shape(value: tf.Tensor, shape: tf.Tensor, name: str, validity: Validity) -> None:
    """Refuse another shape where it is known at run time only."""
    if not value.shape.is_fully_defined() or tf.get_static_value(shape) is None:
        validity.require(
            tf.shape(value),
            lambda s: tf.equal(s, shape),
            lambda s: f"{name} has a wrong shape: {s}",
        )


def option_of(
    value: Any, name: str, rows: tf.Tensor, validity: Validity, *shapes: Any, above_0: bool = False
) -> tf.Tensor:
    """A finite option as a tensor: a scalar, or of one of some shapes.

    Args:
      value, name: what was given, and as what.
      rows: logits; the option gets their dtype.
      validity: of the call.
      *shapes: lists of axes of `rows`, or None for an axis of length 1.
      above_0: whether it must be positive.
    """
    option = tensor(value, name, rows.dtype)
    static = [[1 if axis is None else rows.shape[axis] for axis in shape] for shape in shapes]
    if not any(option.shape.is_compatible_with(shape) for shape in ([], *static)):
        allowed = " or ".join(["a scalar", *map(shape_text, static)])
        raise RebarError(f"{name} must be {allowed}, given: {shape_text(option.shape)}")
    validity.require(
        option,
        lambda v: (abs(v) < np.inf) & ((v > 0) if above_0 else (v == v)),
        lambda v: f"{name} must be {'above 0 and ' * above_0}finite, given: {np.min(v):g}",
    )
    if option.shape.rank and None in [*option.shape, *rows.shape]:
        sizes = tf.shape(rows)
        dynamic = [[1 if axis is None else sizes[axis] for axis in shape] for shape in shapes]
        candidates = [shape for shape in dynamic if len(shape) == option.shape.rank]
        validity.require(
            tf.shape(option),
            lambda s: tf.reduce_any([tf.reduce_all(tf.equal(s, c)) for c in candidates]),
            lambda s: f"{name} has a wrong shape: {s}",
        )
    return option


def values_of(function: Callable, name: str, samples: tf.Tensor) -> tf.Tensor:
    """function(samples [B, ...]), checked to be [B], in the dtype of the samples.

    A derivative with respect to the samples is checked, too, when it is taken.
    """
    if not callable(function):
        raise RebarError(f"{name} must be a function of the samples, given: {function!r}")
    values = function(_with_checked_derivative(samples, name))
    returned = "None"
    if values is not None:
        values = tf.convert_to_tensor(values)
        if values.shape.rank == 1 and values.shape.is_compatible_with(samples.shape[:1]):
            # Its own: f may be called in a loop, whose tensors cannot leave it.
            validity = Validity()
            _require_shape(values, tf.shape(samples)[:1], name, validity)
            return validity.apply(tensor(values, f"what {name} returns", samples.dtype))
        returned = shape_text(values.shape)
    raise RebarError(
        f"{name} must return one number per row, shape {shape_text(samples.shape[:1])}, for "
        f"samples of shape {shape_text(samples.shape)}; it returned {returned}. Sum over other "
        "axes, drop one of length 1 with tf.squeeze(values, axis=-1), or give a shape that "
        "TensorFlow does not know with tf.ensure_shape(values, samples.shape[:1])"
    )


def require_derivative(derivative: tf.Tensor | None, name: str) -> None:
    """Raise RebarError if the function `name` has no derivative with respect to its samples."""
    if derivative is None:
        raise RebarError(_NO_DERIVATIVE.format(name))


def _with_checked_derivative(samples: tf.Tensor, name: str) -> tf.Tensor:
    """The samples, whose derivative must have their shape.

    tf.py_function around code that TensorFlow cannot differentiate returns one of another shape.
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
    """A finite number as a float, or as a scalar tensor without a gradient; see `option_of`."""
    option = tf.stop_gradient(option_of(value, name, logits, validity, above_0=above_0))
    return float(value) if isinstance(value, numbers.Real) else option


def count_of(value: Any, name: str, least: int) -> int:
    """An integer from `least`."""
    if not isinstance(value, numbers.Integral) or value < least:
        raise RebarError(f"{name} must be an integer from {least}, given: {value!r}")
    return int(value)


def form_of(value: Any, forms: Sequence[str]) -> str:
    """One of the forms."""
    if value not in forms:
        raise RebarError(f"unknown form {value!r}; known: {', '.join(forms)}")
    return value


class NoiseSource:
    """Uniforms of one call: drawn from a seed and a step, or given by the user.

    Args:
      logits: [..., C], or [..., H] of binary units.
      noise: uniforms shaped as the logits, or None; [K, ..., C] where samples are several.
      seed, step: the numbers to draw all noise from, where none is given.
      validity: of the call.
    """

    def __init__(
        self, logits: tf.Tensor, noise: Any, seed: Any, step: Any, validity: Validity
    ) -> None:
        self.logits, self.noise, self.seed, self.step = logits, noise, seed, step
        self._validity = validity
        if noise is not None and not (seed is None and step is None):
            raise RebarError("give noise, or seed and step, not both")

    def samples(self, count: int | None = None) -> tf.Tensor:
        """Uniforms [..., C] of the sample; of several [count, ..., C]."""
        return self._uniforms(self.noise, "noise", _SAMPLES, count)

    def draws(self, count: int, given: Any) -> FromUniforms | FromWords:
        """Noise of `count` draws given the sample."""
        if given is None and self.noise is None and self.logits.dtype == tf.float32:
            shape = tf.concat([[(count + 1) // 2], tf.shape(self.logits)], axis=0)
            words = noise_module.words(self._key(_DRAWS), shape)
            return FromWords(tf.ensure_shape(words, [(count + 1) // 2, *self.logits.shape]), count)
        return FromUniforms(self._uniforms(given, "draws_noise", _DRAWS, count))

    def fresh(self, given: Any) -> tf.Tensor:
        """Uniforms [..., C] of Gumbels drawn anew."""
        return self._uniforms(given, "fresh_noise", _FRESH, None)

    def given(self, value: Any, name: str) -> tf.Tensor:
        """Uniforms given by the user, shaped as the logits."""
        return self._uniforms(value, name, _SAMPLES, None)

    def _key(self, purpose):
        if self.seed is None or self.step is None:
            raise RebarError(
                "no noise to draw samples with; give seed=0, step=i, where i changes from call to "
                "call, or noise=uniforms shaped as the logits"
            )
        position = [] if purpose == _SAMPLES else [purpose]
        return noise_module.fold_in(noise_module.key(self.seed, "latents", *position), self.step)

    def _uniforms(self, given, name, purpose, count):
        shape, dtype = self.logits.shape, self.logits.dtype
        leading = [] if count is None else [count]
        if given is None and self.noise is not None:
            raise RebarError(
                f"with noise given, {name} is needed, too: uniforms of shape "
                f"{shape_text([*leading, *shape])}; or give seed and step instead of both"
            )
        wanted = tf.concat([tf.constant(leading, tf.int32), tf.shape(self.logits)], axis=0)
        if given is None:
            return tf.ensure_shape(
                noise_module.uniforms(self._key(purpose), wanted, dtype), [*leading, *shape]
            )
        return uniforms_of(given, name, wanted, [*leading, *shape], self._validity, dtype)
