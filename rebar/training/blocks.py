"""Many training steps per call, on a training set that is held as a tensor.

An epoch visits the training set once in random order, in full minibatches and perhaps a smaller
last one. Its steps form blocks. The noise of a block is a function of (seed, epoch, block), so that
of a step does not depend on where a run was resumed.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rebar import noise
from rebar.errors import RebarError
from rebar.noise import Noise
from rebar.training.learner import Learner
from rebar.training.sequential import Sequential


class Records(NamedTuple):
    """The results of `Learner.step` in consecutive steps.

    Attributes:
      metrics, variances: names of the columns, first those of metrics.
      table: [steps, columns] float32.
      wrong: [steps] integers.
    """

    metrics: tuple
    variances: tuple
    table: np.ndarray
    wrong: np.ndarray


class Blocks:
    """Runs steps of a learner on a training set.

    Args:
      learner: see `Learner`.
      train: [n, D] uint8 in {0, 1}, or float32 in [0, 1].
      batch_size: B; the last minibatch of an epoch may be smaller.
      n_samples: S, samples per example.
      seed: non-negative integer or several, e.g. (seed, trial).
      jit: compile the loop with XLA, except for a small last minibatch. Other steps run one by one,
        see `sequential`.
      dynamic: binarize images at each use; their values are probabilities.

    Raises:
      RebarError: an empty training set.
    """

    def __init__(
        self,
        learner: Learner,
        train,
        batch_size: int,
        n_samples=1,
        seed=0,
        jit=False,
        dynamic=False,
    ):
        if not len(train):
            raise RebarError("the training set is empty")
        self._learner = learner
        self._data = tf.constant(train)
        self._dynamic = dynamic
        self._seed = seed
        self._batch = min(batch_size, len(train))
        self._samples = n_samples
        self._full, self._last_batch = divmod(len(train), self._batch)
        self.steps_per_epoch = self._full + (self._last_batch > 0)
        branches = noise.branch_widths(learner.model.n_units) if learner.estimator.branches else []
        self._widths = [*learner.model.n_units, *branches]
        # Without branches: the noise of the main chain must not depend on the estimator.
        main = n_samples * sum(learner.model.n_units)
        elements = self._batch * (main + self._dynamic * train.shape[1])
        self._size = noise.block_steps(elements)
        self._names: tuple = ()
        self._order = (-1, None)
        self._draw = tf.function(self._draw_block, autograph=False)
        self._step = tf.function(self._row, autograph=False)
        self._run = tf.function(self._loop, autograph=False, jit_compile=True)
        # By the number of rows of a minibatch.
        self._sequential = {
            rows: Sequential(self._single) for rows in (self._batch, self._last_batch)
        }
        self._jit = jit

    def next_count(self, step: int, limit: int) -> int:
        """Number of steps that one call can take from `step` on, from 1 to `limit`."""
        position = step % self.steps_per_epoch
        if position >= self._full:
            return 1
        end = min(self._full, (position // self._size + 1) * self._size)
        return min(end - position, limit)

    def take(self, step: int, count: int) -> Records:
        """Take `count` steps; `step` is the first, counted from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        block, first = divmod(position, self._size)
        rows, size = self._batch, self._size
        if position >= self._full:
            rows, size = self._last_batch, 1
        index = np.zeros([size, rows], np.int32)
        order = self._epoch_order(epoch)
        for i in range(count):
            start = (position + i) * self._batch
            index[i] = order[start : start + rows]
        n_layer = len(self._learner.model.n_units)
        streams = [("latents", i) for i in range(n_layer)]
        streams += [("branches", i) for i in range(len(self._widths) - n_layer)]
        keys = [noise.key(self._seed, name, epoch, block, i) for name, i in streams]
        uniforms, pixels = self._draw(
            np.stack(keys), noise.key(self._seed, "binarize", epoch, block)
        )
        key = noise.key(self._seed, "further", epoch, block)
        if first == 0:
            self._learner.begin_block()
        if self._jit and position < self._full:
            table = self._run(
                self._data, index, uniforms, pixels, key, tf.constant(first), tf.constant(count)
            ).numpy()
        else:
            single = self._sequential[rows]
            key, minibatches = tf.constant(key), tf.constant(index)
            table = np.stack(
                [
                    single(
                        self._data, minibatches[i], uniforms, pixels, key, tf.constant(first + i)
                    )
                    for i in range(count)
                ]
            )
        return Records(*self._names, table[:count, :-1], table[:count, -1].astype(int))

    def _epoch_order(self, epoch):
        if self._order[0] != epoch:
            self._order = (epoch, noise.permutation(self._seed, epoch, len(self._data)))
        return self._order[1]

    def _draw_block(self, latent_keys, pixel_key):
        """Uniforms of a block: [size, S, B, H] each, and [size, B, D] to binarize, or None."""
        shape = [self._size, self._samples, self._batch]
        dtype = self._learner.model.compute_dtype
        uniforms = tuple(
            noise.uniforms(latent_keys[layer], [*shape, width], dtype)
            for layer, width in enumerate(self._widths)
        )
        if not self._dynamic:
            return uniforms, None
        return uniforms, noise.uniforms(pixel_key, [self._size, self._batch, self._data.shape[1]])

    def _inputs(self, data, index, uniforms, pixels, position):
        """x [B, D] and the noise of one step, of static shape (lost by u[position])."""
        rows = index.shape[0]
        x = tf.gather(data, index)
        if self._dynamic:
            x = tf.gather(pixels, position)[:rows] < x
        latents = tuple(
            tf.reshape(tf.gather(u, position)[:, :rows], [-1, u.shape[-1]]) for u in uniforms
        )
        return tf.cast(x, self._learner.model.compute_dtype), latents

    def _row(self, x, latents, key):
        """Take one step and return its record [columns]; tracing sets the columns' names."""
        n_layer = len(self._learner.model.n_units)
        branches = ()
        if self._learner.estimator.branches:
            branches = noise.group_branches(latents[n_layer:], n_layer)
        metrics, variances, wrong = self._learner.step(
            x, Noise(latents[:n_layer], self._samples, branches, key)
        )
        self._names = tuple(metrics), tuple(variances)
        row = [*metrics.values(), *variances.values(), wrong]
        return tf.stack([tf.cast(v, tf.float32) for v in row])

    def _single(self, data, index, uniforms, pixels, key, position):
        """Take one step and return its record [columns]."""
        x, latents = self._inputs(data, index, uniforms, pixels, position)
        return self._row(x, latents, noise.fold_in(key, position))

    def _loop(self, data, index, uniforms, pixels, key, first, count):
        """Take `count` steps and return their records as a table [size, columns]."""
        size, rows = index.shape
        dtype = self._learner.model.compute_dtype
        latents = tuple(tf.TensorSpec([self._samples * rows, u.shape[-1]], dtype) for u in uniforms)
        step = self._step.get_concrete_function(
            tf.TensorSpec([rows, data.shape[1]], dtype), latents, tf.TensorSpec([2], tf.int32)
        )
        records = tf.TensorArray(tf.float32, size, element_shape=step.output_shapes)

        def body(i, records):
            x, latents = self._inputs(data, index[i], uniforms, pixels, first + i)
            return i + 1, records.write(i, step(x, latents, noise.fold_in(key, first + i)))

        _, records = tf.while_loop(lambda i, _: i < count, body, (tf.constant(0), records))
        return records.stack()
