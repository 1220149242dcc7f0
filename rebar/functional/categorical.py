"""What functions for categorical latents are given, made into tensors or refused; their noise."""

import numbers
from typing import Any

import tensorflow as tf

from rebar import noise as noise_module
from rebar.core.straight_through import FromUniforms, FromWords
from rebar.core.validity import Validity
from rebar.errors import RebarError
from rebar.functional.arguments import option_of, shape_text, tensor, uniforms_of

_SAMPLES, _DRAWS, _FRESH = range(3)


def logits_of(value: Any) -> tf.Tensor:
    """Logits [..., C], C at least 2."""
    logits = tensor(value, "logits")
    if logits.dtype not in (tf.float32, tf.float64):
        raise RebarError(
            f"logits must be float32 or float64, given: {logits.dtype.name}; type "
            "tf.cast(logits, tf.float32)"
        )
    shape = logits.shape
    if shape.rank in (None, 0) or shape[-1] is None or shape[-1] < 2:
        raise RebarError(
            "logits must be [..., C] with C categories on the last axis, a number known beforehand "
            f"and at least 2, given: {shape_text(shape)}"
        )
    return logits


def number_of(value: Any, name: str, logits: tf.Tensor, validity: Validity, above_0=False) -> Any:
    """A finite number as a float, or as a scalar tensor without a gradient; see `option_of`."""
    option = tf.stop_gradient(option_of(value, name, logits, validity, above_0=above_0))
    return float(value) if isinstance(value, numbers.Real) else option


def count_of(value: Any, name: str, least: int) -> int:
    """An integer from `least`."""
    if not isinstance(value, numbers.Integral) or value < least:
        raise RebarError(f"{name} must be an integer from {least}, given: {value!r}")
    return int(value)


def form_of(value: Any, forms) -> str:
    """One of the forms."""
    if value not in forms:
        raise RebarError(f"unknown form {value!r}; known: {', '.join(forms)}")
    return value


class NoiseSource:
    """Where a call's uniforms come from: seed and step, or those that were given.

    Args:
      logits: [..., C].
      noise: uniforms shaped as the logits, or None; [K, ..., C] where samples are several.
      seed, step: the numbers to draw all noise from, where none is given.
      validity: of the call.
    """

    def __init__(self, logits, noise, seed, step, validity: Validity):
        self._logits, self._noise, self._seed, self._step = logits, noise, seed, step
        self._validity = validity
        if noise is not None:
            if seed is not None or step is not None:
                raise RebarError("give noise, or seed and step, not both")
        elif seed is None or step is None:
            raise RebarError(
                "no noise to draw samples with; give seed=0, step=i, where i changes from call to "
                "call, or noise=uniforms shaped as the logits"
            )

    def samples(self, count: int | None = None) -> tf.Tensor:
        """Uniforms [..., C] of the sample; of several [count, ..., C]."""
        return self._uniforms(self._noise, "noise", _SAMPLES, count)

    def draws(self, count: int, given: Any) -> FromUniforms | FromWords:
        """Noise of `count` draws given the sample."""
        if given is None and self._noise is None and self._logits.dtype == tf.float32:
            shape = tf.concat([[(count + 1) // 2], tf.shape(self._logits)], axis=0)
            words = noise_module.words(self._key(_DRAWS), shape)
            return FromWords(tf.ensure_shape(words, [(count + 1) // 2, *self._logits.shape]), count)
        return FromUniforms(self._uniforms(given, "draws_noise", _DRAWS, count))

    def fresh(self, given: Any) -> tf.Tensor:
        """Uniforms [..., C] of Gumbels drawn anew."""
        return self._uniforms(given, "fresh_noise", _FRESH, None)

    def _key(self, purpose):
        position = [] if purpose == _SAMPLES else [purpose]
        return noise_module.fold_in(noise_module.key(self._seed, "latents", *position), self._step)

    def _uniforms(self, given, name, purpose, count):
        shape, dtype = self._logits.shape, self._logits.dtype
        leading = [] if count is None else [count]
        if given is None and self._noise is not None:
            raise RebarError(
                f"with noise given, {name} is needed, too: uniforms of shape "
                f"{shape_text([*leading, *shape])}; or give seed and step instead of both"
            )
        wanted = tf.concat([tf.constant(leading, tf.int32), tf.shape(self._logits)], axis=0)
        if given is None:
            return tf.ensure_shape(
                noise_module.uniforms(self._key(purpose), wanted, dtype), [*leading, *shape]
            )
        return uniforms_of(given, name, wanted, [*leading, *shape], self._validity, dtype)
