"""Stateless random numbers: (seed, stream, position) -> numbers.

A position (step, epoch, evaluation batch) is hashed with the run's seed into a key of the
counter-based Philox generator, so a run can resume at any step, and estimators with one seed use
the same noise. Uniforms are computed from raw bits, which are equal in eager, tf.function and XLA
mode, and are strictly inside (0, 1).

Replicas of a `tf.distribute` strategy draw independent noise from one key: `words`, which draws all
bits, folds the replica's number into it. With one replica the numbers are those without a strategy.
"""

import contextlib
import random
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rebar.errors import RebarError, unknown

STREAMS = (
    "latents",
    "binarize",
    "evaluate",
    "initialize",
    "order",
    "analysis",
    "branches",
    "variance",
    "further",
)
"""Purposes of noise, with independent numbers each."""

MAX_BLOCK_STEPS = 100
_MAX_BLOCK_ELEMENTS = 4_000_000
_MORE_SAMPLES = 2**31 - 1
"""Number of a `further_key` that no estimator uses."""


class Noise(NamedTuple):
    """Noise of one gradient estimate.

    Attributes:
      uniforms: L tensors [N, H] of uniforms in (0, 1), first layer first; N = S * B rows,
        sample-major; or `SiteUniforms`.
      n_samples: S, samples per example.
      branches: for estimators with `branches = True`: uniforms of chains that separate from the
        main one at layer l: `branches[l][i]` is [N, H] of layer l + 1 + i. Else empty.
      key: [2], key of additional numbers, see `further_key`.
    """

    uniforms: Any
    n_samples: int = 1
    branches: Any = ()
    key: tf.Tensor | None = None


def key(seed: int | Sequence[int], stream: str, *position: int) -> np.ndarray:
    """Return the Philox key [2] (int32) of one position in one stream of a run.

    Args:
      seed: integer from 0 to 2**32 - 1, or several, e.g. (seed, trial).
      stream: one of STREAMS.
      *position: non-negative integers, e.g. a step.

    Raises:
      RebarError: an invalid seed or an unknown stream.
    """
    words = list(seed) if isinstance(seed, list | tuple | np.ndarray) else [seed]
    if stream not in STREAMS:
        raise unknown("noise stream", stream, STREAMS)
    if not all(isinstance(word, int | np.integer) and 0 <= word < 2**32 for word in words):
        raise RebarError(f"seed={seed!r}: must be an integer from 0 to 2**32 - 1; use e.g. 0")
    # The spawn key distinguishes positions of different lengths, trailing zeros included.
    sequence = np.random.SeedSequence(
        words, spawn_key=(len(words), STREAMS.index(stream), *position)
    )
    return sequence.generate_state(2).view(np.int32)


def fold_in(key: tf.Tensor, step: Any) -> tf.Tensor:
    """Derive the key [2] of a step, an integer or integer tensor, from a key [2]."""
    if isinstance(step, int) and not -(2**31) <= step < 2**31:
        raise RebarError(f"step={step}: must be below 2**31; use the rest as part of the seed")
    step = tf.convert_to_tensor(step)
    if not step.dtype.is_integer or step.shape.rank not in (0, None):
        raise RebarError(
            f"step of type {step.dtype.name} and shape {step.shape}: must be an integer, because a "
            "fraction would repeat noise; cast it"
        )
    return tf.random.experimental.stateless_fold_in(key, tf.cast(step, tf.int32), alg="philox")


@contextlib.contextmanager
def default_seed(seed: int) -> Iterator[None]:
    """Make Keras' initializers without a seed reproducible: they draw from Python's `random`."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def uniforms(key: tf.Tensor, shape: Any, dtype: Any = tf.float32) -> tf.Tensor:
    """Draw uniforms in the open interval (0, 1) from 23 random bits (float32) or 32 (float64).

    Args:
      key: [2] integers from `key`.
      shape: shape; a larger first axis only appends numbers.
      dtype: tf.float32 or tf.float64.
    """
    bits = words(key, shape)
    if tf.as_dtype(dtype) == tf.float64:
        return (tf.cast(bits, tf.float64) + 0.5) * 2.0**-32
    # Via int32: XLA converts signed integers to floats much faster than unsigned ones.
    shifted = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.int32)
    return (tf.cast(shifted, tf.float32) + 0.5) * 2.0**-23


def words(key: tf.Tensor, shape: Any) -> tf.Tensor:
    """Draw 32-bit words (uint32), different ones in each replica of a strategy.

    Drawing inside a loop that XLA compiles is many times slower than before the loop.
    """
    return tf.random.stateless_uniform(
        shape, seed=of_replica(key), minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )


def of_replica(key: tf.Tensor) -> tf.Tensor:
    """Return the key of this replica of a strategy; the key itself if there is one replica."""
    replica = tf.distribute.get_replica_context()  # None outside of `strategy.run`
    if replica is None or replica.num_replicas_in_sync == 1:
        return key
    return fold_in(key, replica.replica_id_in_sync_group)


def latents(
    key: Any, n_samples: int, batch: int, widths: Sequence[int], dtype: Any = tf.float32
) -> Noise:
    """Draw the noise of one estimate: uniforms [n_samples * batch, width] per layer."""
    layers = _layers(key, n_samples * batch, widths, dtype)
    return Noise(tuple(layers), n_samples, key=fold_in(key, 1))


class SiteUniforms:
    """Uniforms of the sites of an objective, each drawn when its site is first sampled.

    Like `Noise.uniforms`, but the widths need not be known before.

    Args:
      key: [2].
    """

    def __init__(self, key: tf.Tensor):
        self._key = key
        self._drawn: list[tf.Tensor] = []

    def __len__(self):
        return len(self._drawn)

    def __getitem__(self, site: int) -> tf.Tensor:
        return self._drawn[site]

    def at(self, site: int, shape: Any, dtype: Any) -> tf.Tensor:
        """Return the uniforms of a site, drawn with this shape the first time."""
        if site == len(self._drawn):
            self._drawn.append(uniforms(fold_in(self._key, site), shape, dtype))
        return self._drawn[site]

    def undrawn(self) -> "SiteUniforms":
        """Return the same uniforms before the first draw, for another number of rows."""
        return SiteUniforms(self._key)


class SiteBranches:
    """`Noise.branches` of `SiteUniforms`: uniforms shaped like those of the main chain."""

    def __init__(self, key: tf.Tensor, main: SiteUniforms, layer: int | None = None):
        self._key, self._main, self._layer = key, main, layer

    def beside(self, main: SiteUniforms) -> "SiteBranches":
        """Return the same uniforms for another number of rows, that of `main`."""
        return SiteBranches(self._key, main)

    def __getitem__(self, i: int) -> Any:
        if self._layer is None:
            return SiteBranches(fold_in(self._key, i), self._main, i)
        like = self._main[self._layer + 1 + i]
        drawn = uniforms(fold_in(self._key, i), tf.shape(like), like.dtype)
        return tf.ensure_shape(drawn, like.shape)


def of_sites(
    seed: int | Sequence[int], step: Any, n_samples: int = 1, stream: str = "latents"
) -> Noise:
    """Return the noise of one estimate for an objective whose sites are not known yet."""
    keys = [fold_in(fold_in(key(seed, stream), step), i) for i in range(3)]
    main = SiteUniforms(keys[0])
    return Noise(main, n_samples, SiteBranches(keys[2], main), keys[1])


def _layers(key, rows, widths, dtype):
    """Uniforms [rows, width] per layer, from one draw."""
    flat = uniforms(key, [rows * sum(widths)], dtype)
    parts = tf.split(flat, [rows * width for width in widths]) if widths else []
    return [tf.reshape(part, [rows, width]) for part, width in zip(parts, widths, strict=True)]


def further_key(noise: Noise, number: int) -> tf.Tensor:
    """Return the key [2] of an estimate's additional noise, independent of its samples.

    Args:
      noise: noise of the estimate.
      number: index of the tensor; equal indices give equal noise to all estimators.

    Raises:
      RebarError: the noise has no key.
    """
    if noise.key is None:
        raise RebarError(
            "noise.key=None: must be a key for estimators with additional noise; use "
            "rebar.noise.latents, or Noise(..., key=rebar.noise.key(seed, 'further', step))"
        )
    return fold_in(noise.key, number)


def branch_widths(widths: Sequence[int]) -> list[int]:
    """Return the widths of all tensors of `Noise.branches`, layer by layer."""
    return [above for layer in range(len(widths)) for above in widths[layer + 1 :]]


def group_branches(tensors: Sequence[tf.Tensor], n_layer: int) -> tuple:
    """Group tensors in the order of `branch_widths` into `Noise.branches`."""
    remaining = iter(tensors)
    return tuple(
        tuple(next(remaining) for _ in range(layer + 1, n_layer)) for layer in range(n_layer)
    )


def with_branches(noise: Noise, key: Any) -> Noise:
    """Add branches to the noise of the main chain, from a key of the stream "branches"."""
    first = noise.uniforms[0]
    widths = branch_widths([u.shape[1] for u in noise.uniforms])
    tensors = _layers(key, first.shape[0], widths, first.dtype)
    return noise._replace(branches=group_branches(tensors, len(noise.uniforms)))


def with_samples(noise: Noise, n_samples: int) -> Noise:
    """Return noise with another number of samples per example: its first, then additional ones."""
    if n_samples == noise.n_samples:
        return noise
    tensors = [*noise.uniforms, *(u for above in noise.branches for u in above)]
    present = tensors[0].shape[0]
    rows = present // noise.n_samples * n_samples
    if rows > present:
        widths = [u.shape[1] for u in tensors]
        key = further_key(noise, _MORE_SAMPLES)
        more = _layers(key, rows - present, widths, tensors[0].dtype)
        tensors = [tf.concat(pair, axis=0) for pair in zip(tensors, more, strict=True)]
    tensors, n_layer = [u[:rows] for u in tensors], len(noise.uniforms)
    branches = group_branches(tensors[n_layer:], n_layer) if noise.branches else ()
    return Noise(tuple(tensors[:n_layer]), n_samples, branches, noise.key)


def block_steps(elements_per_step: int) -> int:
    """Return the number of steps whose noise is drawn at once, a few megabytes.

    A function of the sizes alone: the noise of a step must not depend on where a run resumed.
    """
    return max(1, min(MAX_BLOCK_STEPS, _MAX_BLOCK_ELEMENTS // max(1, elements_per_step)))


def permutation(seed: int | Sequence[int], epoch: int, n: int) -> np.ndarray:
    """Return the order [n] of an epoch's training examples."""
    words = key(seed, "order", epoch).view(np.uint32)
    return np.random.Generator(np.random.Philox(key=words.astype(np.uint64))).permutation(n)


def initializer_seed(seed: int | Sequence[int], name: str) -> int:
    """Return the seed of the initial value of the variable `name`."""
    return int(key(seed, "initialize", zlib.crc32(name.encode()))[0].astype(np.uint32))


def truncated_normal(seed: int, shape: Any, deviation: float, dtype: Any = None) -> tf.Tensor:
    """Draw from a normal distribution truncated at two standard deviations."""
    return keras.random.truncated_normal(shape, stddev=deviation, dtype=dtype, seed=seed)


def centered_uniform(seed: int, shape: Any, limit: float, dtype: Any = None) -> tf.Tensor:
    """Draw uniforms in (-limit, limit)."""
    return keras.random.uniform(shape, minval=-limit, maxval=limit, dtype=dtype, seed=seed)


def generator(seed: int) -> np.random.Generator:
    """Return NumPy's generator, for weights and images of tiny problems."""
    return np.random.default_rng(seed)


def numpy_stream(seed: int) -> np.random.RandomState:
    """Return NumPy's legacy generator, by which published data sets are defined."""
    return np.random.RandomState(seed)
