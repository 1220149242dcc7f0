"""What `estimate_gradient` is given, made into tensors of the right shape or refused."""

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from rebar import noise as noise_module
from rebar.errors import RebarError


def tensor(value: Any, name: str, dtype=None) -> tf.Tensor:
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


def shape_text(shape) -> str:
    """[4, ?, 3]."""
    dimensions = tf.TensorShape(shape)
    if dimensions.rank is None:
        return "unknown"
    return f"[{', '.join('?' if n is None else str(n) for n in dimensions)}]"


def logits_of(value: Any) -> tf.Tensor:
    """Logits [B, H] or [H]."""
    logits = tensor(value, "logits")
    if logits.dtype not in (tf.float32, tf.float64):
        raise RebarError(
            f"logits must be float32 or float64, given: {logits.dtype.name}; type "
            "tf.cast(logits, tf.float32)"
        )
    if logits.shape.rank not in (1, 2):
        raise RebarError(f"logits must be [B, H] or [H], given: {shape_text(logits.shape)}")
    return logits


def uniforms_of(value: Any, name: str, logits: tf.Tensor, n_samples: int | None) -> tf.Tensor:
    """Uniforms given for logits [B, H] or [H] as [B, H], or as [K, B, H] for K samples."""
    uniforms = tensor(value, name, logits.dtype)
    wanted = [*([] if n_samples is None else [n_samples]), *logits.shape]
    if uniforms.shape.rank is None or not uniforms.shape.is_compatible_with(wanted):
        raise RebarError(
            f"{name} must be uniforms of shape {shape_text(wanted)} for logits of shape "
            f"{shape_text(logits.shape)}, given: {shape_text(uniforms.shape)}"
        )
    check_open(uniforms, name)
    return tf.expand_dims(uniforms, -2) if logits.shape.rank == 1 else uniforms


def check_open(uniforms: tf.Tensor, name: str) -> None:
    """Raises RebarError for numbers outside of (0, 1), where they are known: not in a graph."""
    if hasattr(uniforms, "numpy"):
        values = uniforms.numpy()
        if not ((values > 0) & (values < 1)).all():
            raise RebarError(
                f"{name} must be uniforms in (0, 1), given: a smallest of {values.min():g}, a "
                f"largest of {values.max():g}"
            )


def drawn(seed: int, step: Any, n_samples: int, rows: tf.Tensor) -> tf.Tensor:
    """Uniforms [K, B, H] for rows of logits [B, H], from two numbers."""
    key = noise_module.fold_in(noise_module.key(seed, "latents"), step)
    shape = tf.concat([[n_samples], tf.shape(rows)], axis=0)
    return tf.ensure_shape(noise_module.uniforms(key, shape, rows.dtype), [n_samples, *rows.shape])


def option_of(value: Any, name: str, dtype, *shapes) -> tf.Tensor:
    """An option as a tensor: a scalar, or of one of the shapes."""
    option = tensor(value, name, dtype)
    if not any(option.shape.is_compatible_with(shape) for shape in ([], *shapes)):
        allowed = ", ".join(["a scalar", *map(shape_text, shapes)])
        raise RebarError(f"{name} must be one of: {allowed}; given: {shape_text(option.shape)}")
    return option


def values_of(function: Callable, name: str, samples: tf.Tensor) -> tf.Tensor:
    """function(samples [B, H]), checked to be [B], in the dtype of the samples."""
    if not callable(function):
        raise RebarError(f"{name} must be a function of the samples, given: {function!r}")
    values = function(samples)
    returned = "None"
    if values is not None:
        values = tf.convert_to_tensor(values)
        if values.shape.rank == 1 and values.shape.is_compatible_with(samples.shape[:1]):
            return tensor(values, f"what {name} returns", samples.dtype)
        returned = shape_text(values.shape)
    raise RebarError(
        f"{name} must return one number a row, shape {shape_text(samples.shape[:1])}, for samples "
        f"of shape {shape_text(samples.shape)}; it returned {returned}. Sum over other axes, or "
        "drop one of length 1 with tf.squeeze(values, axis=-1)"
    )
