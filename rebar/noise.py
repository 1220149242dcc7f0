"""The only file that draws random numbers: (seed, stream, position) -> numbers.

Nothing here has a state. A position (step, epoch, evaluation batch) is hashed with the run's seed
into a key for the counter-based Philox generator, so a run that resumes at step s needs to know s
and nothing else, and two estimators with one seed see the same noise. Uniforms are made from raw
bits, which are equal in eager, tf.function and XLA mode, and lie strictly inside (0, 1).

Replicas of a `tf.distribute` strategy draw independent noise from one key: `words`, which draws all
bits, folds the replica's number into it. With one replica the numbers are those without a strategy.
"""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rebar.errors import RebarError

STREAMS = (
    "latents",
    "binarize",
    "evaluate",
    "initialise",
    "order",
    "analysis",
    "branches",
    "variance",
    "further",
)
"""What randomness is for: each stream is independent of the others."""

MAX_BLOCK_STEPS = 100
_MAX_BLOCK_ELEMENTS = 4_000_000


class Noise(NamedTuple):
    """Everything random that one gradient estimate uses.

    Attributes:
      uniforms: L tensors [N, H] of uniforms in (0, 1), one a latent layer, first layer first;
        N = S * B rows, sample-major.
      n_samples: S, the number of samples an example.
      branches: what estimators with `branches = True` continue a chain with that leaves the main
        one at layer l: `branches[l][i]` is [N, H] of layer l + 1 + i. Empty for the others.
      key: [2], what estimators that need still more numbers draw them from, see `further_key`.
    """

    uniforms: tuple
    n_samples: int = 1
    branches: tuple = ()
    key: tf.Tensor | None = None


def key(seed: int | Sequence[int], stream: str, *position: int) -> np.ndarray:
    """The Philox key [2] (int32) of one position in one stream of a run.

    Args:
      seed: non-negative integer, or several, e.g. (seed, trial).
      stream: one of STREAMS.
      *position: non-negative integers, e.g. a step.

    Raises:
      RebarError: a seed that is negative or no integer, or an unknown stream.
    """
    words = list(seed) if isinstance(seed, list | tuple | np.ndarray) else [seed]
    if stream not in STREAMS:
        raise RebarError(f"unknown noise stream {stream!r}; known: {', '.join(STREAMS)}")
    if not all(isinstance(word, int | np.integer) and 0 <= word < 2**32 for word in words):
        raise RebarError(f"seed {seed!r} must be an integer from 0 to 2**32 - 1, e.g. --seed=0")
    # The spawn key keeps positions of different lengths apart, trailing zeros included.
    sequence = np.random.SeedSequence(
        words, spawn_key=(len(words), STREAMS.index(stream), *position)
    )
    return sequence.generate_state(2).view(np.int32)


def fold_in(key: tf.Tensor, step: Any) -> tf.Tensor:
    """The key [2] of one step under a key.

    Args:
      key: [2] integers from `key`.
      step: an integer, or an integer tensor, so that a compiled loop can count.

    Raises:
      RebarError: a step that is no integer.
    """
    step = tf.convert_to_tensor(step)
    if not step.dtype.is_integer or step.shape.rank not in (0, None):
        raise RebarError(
            f"step must be an integer, given: {step.dtype.name} of shape {step.shape}; a fraction "
            "would repeat the noise of the step before"
        )
    return tf.random.experimental.stateless_fold_in(key, tf.cast(step, tf.int32), alg="philox")


def uniforms(key: tf.Tensor, shape: Any, dtype: Any = tf.float32) -> tf.Tensor:
    """Uniforms in the open interval (0, 1): 23 random bits (float32) or 32 (float64).

    Args:
      key: [2] integers from `key`.
      shape: of the result; drawing more along the first axis only appends.
      dtype: tf.float32 or tf.float64.
    """
    bits = words(key, shape)
    if tf.as_dtype(dtype) == tf.float64:
        return (tf.cast(bits, tf.float64) + 0.5) * 2.0**-32
    # By way of int32: XLA converts signed integers to floats much faster than unsigned ones.
    shifted = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.int32)
    return (tf.cast(shifted, tf.float32) + 0.5) * 2.0**-23


def words(key: tf.Tensor, shape: Any) -> tf.Tensor:
    """Random words of 32 bits, uint32; different ones in each replica of a strategy.

    Inside a loop that XLA compiles they take many times as long as before it.
    """
    replica = tf.distribute.get_replica_context()  # None outside of `strategy.run`
    if replica is not None and replica.num_replicas_in_sync > 1:
        key = fold_in(key, replica.replica_id_in_sync_group)
    return tf.random.stateless_uniform(
        shape, seed=key, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )


def latents(
    key: Any, n_samples: int, batch: int, widths: Sequence[int], dtype: Any = tf.float32
) -> Noise:
    """Noise for one estimate: a [n_samples * batch, width] tensor of uniforms a layer."""
    rows = n_samples * batch
    flat = uniforms(key, [rows * sum(widths)], dtype)
    parts = tf.split(flat, [rows * width for width in widths])
    layers = tuple(tf.reshape(p, [rows, w]) for p, w in zip(parts, widths, strict=True))
    return Noise(layers, n_samples, key=fold_in(key, 1))


def further_key(noise: Noise, number: int) -> tf.Tensor:
    """The key [2] of what one estimate draws beyond its samples, independent of them.

    Args:
      noise: of the estimate.
      number: which of several tensors; the same one for all estimators that see this noise.

    Raises:
      RebarError: the noise has no key.
    """
    if noise.key is None:
        raise RebarError(
            "this estimator draws further numbers from noise.key, but there is none; make the "
            "noise with rebar.noise.latents, or give Noise(..., key=rebar.noise.key(seed, "
            "'further', step))"
        )
    return fold_in(noise.key, number)


def branch_widths(widths: Sequence[int]) -> list[int]:
    """Widths of all tensors of `Noise.branches`, one layer's after the other's."""
    return [above for layer in range(len(widths)) for above in widths[layer + 1 :]]


def group_branches(tensors: Sequence[tf.Tensor], n_layer: int) -> tuple:
    """`Noise.branches` from its tensors in a row, as `branch_widths` has them."""
    rest = iter(tensors)
    return tuple(tuple(next(rest) for _ in range(layer + 1, n_layer)) for layer in range(n_layer))


def with_branches(noise: Noise, key: Any) -> Noise:
    """The same noise with branches.

    Args:
      noise: of the main chain.
      key: from `key`, stream "branches".
    """
    rows, dtype = noise.uniforms[0].shape[0], noise.uniforms[0].dtype
    widths = branch_widths([u.shape[1] for u in noise.uniforms])
    flat = uniforms(key, [rows * sum(widths)], dtype)
    parts = tf.split(flat, [rows * width for width in widths]) if widths else []
    tensors = [tf.reshape(p, [rows, w]) for p, w in zip(parts, widths, strict=True)]
    return noise._replace(branches=group_branches(tensors, len(noise.uniforms)))


def block_steps(elements_per_step: int) -> int:
    """How many steps' noise is drawn at once: many (cheaper), yet at most a few megabytes.

    A function of the sizes alone: the noise of a step must not depend on where a run stopped.
    """
    return max(1, min(MAX_BLOCK_STEPS, _MAX_BLOCK_ELEMENTS // max(1, elements_per_step)))


def permutation(seed: int | Sequence[int], epoch: int, n: int) -> np.ndarray:
    """The order [n] in which an epoch visits the training set."""
    words = key(seed, "order", epoch).view(np.uint32)
    return np.random.Generator(np.random.Philox(key=words.astype(np.uint64))).permutation(n)


def initializer_seed(seed: int | Sequence[int], name: str) -> int:
    """A seed for the initial value of the variable `name`."""
    return int(key(seed, "initialise", zlib.crc32(name.encode()))[0].astype(np.uint32))


def truncated_normal(seed: int, shape: Any, deviation: float, dtype: Any = None) -> tf.Tensor:
    """Initial weights: normal with standard deviation `deviation`, cut at two of them."""
    return keras.random.truncated_normal(shape, stddev=deviation, dtype=dtype, seed=seed)


def centred_uniform(seed: int, shape: Any, limit: float, dtype: Any = None) -> tf.Tensor:
    """Initial weights: uniform in (-limit, limit)."""
    return keras.random.uniform(shape, minval=-limit, maxval=limit, dtype=dtype, seed=seed)


def numpy_stream(seed: int) -> np.random.RandomState:
    """NumPy's legacy stream, for data sets whose published preparation is defined by it."""
    return np.random.RandomState(seed)
