"""The multi-sample bound of a data set, in bounded memory.

    bound = mean_x log 1/S sum_s exp w(x, b_s),    b_s ~ q(. | x),    w = log p(x, b) - log q(b | x)

Images are evaluated in batches and samples in chunks: a pass has at most ROWS rows at any S, and at
most WORKERS passes run in parallel. Each image is encoded once.
"""

import concurrent.futures
import math
import os

import numpy as np
import tensorflow as tf

from rebar import noise
from rebar.core import bounds, samplers
from rebar.errors import RebarError
from rebar.estimators.base import checked_metrics
from rebar.noise import Noise
from rebar.types import bind

ROWS = 4000
"""Rows (images * samples) per pass; a [rows, 784] tensor of float32 has 12.5 MB."""

WORKERS = max(1, min(4, os.cpu_count() or 1))
"""Passes in parallel."""

CHUNK = 100
"""Samples per image and pass."""

COMPILED_PASSES = 100
"""Full passes from which compiling pays: it takes 1.2 s, and saves 10 to 25 ms per pass."""


class Evaluator:
    """Evaluates a model and the metrics of its estimator.

    Args:
      model: see `rebar.types.Model`.
      estimator: its metrics are added to the bound; None for the bound alone.
      seed: non-negative integer or several. The noise depends on it, the image set and the
        positions of the images only, so it is the same for all evaluations and estimators.
      jit: compile the passes of large image sets with XLA.
    """

    def __init__(self, model, estimator=None, seed=0, jit=False):
        self._model = model
        self._estimator = estimator
        self._seed = seed
        self._jit = jit
        # Outside the compiled pass, since XLA draws more slowly.
        self._draw = tf.function(self._uniforms, autograph=False)
        self._pass = tf.function(self._bounds, autograph=False)
        self._compiled_pass = tf.function(self._bounds, autograph=False, jit_compile=True)

    def __call__(self, images, n_samples: int = 100, stream: int = 0) -> dict:
        """Evaluate a set of images.

        Args:
          images: [n, D] in {0, 1}.
          n_samples: S.
          stream: number of the image set, e.g. 0 for validation and 1 for test.

        Returns:
          name -> mean over images: "bound" and "elbo" in nats, then the estimator's metrics.

        Raises:
          RebarError: no images, or n_samples < 1.
        """
        if not len(images) or n_samples < 1:
            raise RebarError(
                f"nothing to evaluate: {len(images)} images, n_samples={n_samples}; both must be "
                "at least 1"
            )
        chunk = min(n_samples, CHUNK)
        batch = max(1, ROWS // chunk)
        passes = (len(images) // batch) * (n_samples // chunk)
        compiled = self._jit and passes >= COMPILED_PASSES

        def evaluate(start):
            x = tf.constant(images[start : start + batch])
            full = compiled and len(x) == batch
            values = self._batch(x, n_samples, chunk, (stream, start), full)
            return {name: float(value) * len(x) / len(images) for name, value in values.items()}

        # TensorFlow releases Python's lock, so threads run in parallel.
        first, *rest = range(0, len(images), batch)
        parts = [evaluate(first)]
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            parts += pool.map(evaluate, rest)
        return {name: sum(part[name] for part in parts) for name in parts[0]}

    def _batch(self, x, n_samples, chunk, position, compiled):
        """Bound, ELBO and metrics of a batch, over chunks of samples."""
        encoded, chunks, values = None, [], {}
        for done in range(0, n_samples, chunk):
            layers = range(len(self._model.n_units))
            keys = [noise.key(self._seed, "evaluate", *position, done, layer) for layer in layers]
            keys = np.stack(keys)
            size = min(chunk, n_samples - done)
            first = done == 0
            run = self._compiled_pass if compiled and size == chunk else self._pass
            uniforms = self._draw(keys, size * len(x))
            encoded, bound, elbo, metrics = run(x, encoded, keys, uniforms, size, first)
            chunks.append((size, bound.numpy().astype(np.float64), elbo.numpy()))
            values = metrics if first else values
        log_weights = [bound + math.log(size) for size, bound, _ in chunks]
        elbo = sum(size * elbo for size, _, elbo in chunks) / n_samples
        bound = np.mean(np.logaddexp.reduce(log_weights, axis=0)) - math.log(n_samples)
        return {"bound": bound, "elbo": elbo, **values}

    def _uniforms(self, keys, rows):
        """Uniforms of a pass, [rows, H] per layer."""
        dtype = self._model.compute_dtype
        widths = enumerate(self._model.n_units)
        return tuple(noise.uniforms(keys[i], [rows, width], dtype) for i, width in widths)

    def _bounds(self, x, encoded, keys, uniforms, n_samples, with_metrics):
        """One pass: first-layer logits [B, H], bound [B], mean f, and metrics if requested."""
        x = tf.cast(x, self._model.compute_dtype)
        latents = Noise(uniforms, n_samples, key=noise.fold_in(keys[0], 1))
        model = bind(self._model, latents)
        if encoded is None:
            encoded = model.encode(x)
        hard = model.rollout(x, samplers.hard(latents), n_samples, encoded)
        weights = hard.objective if hard.log_weight is None else hard.log_weight
        bound = bounds.multi_sample(bounds.split_samples(weights, n_samples))
        metrics = {}
        if with_metrics and self._estimator is not None:
            if self._estimator.branches:
                latents = noise.with_branches(latents, noise.fold_in(keys[0], 2))
            metrics = self._estimator.metrics_at(model, x, latents, hard)
            metrics = checked_metrics(self._estimator, "metrics_at", metrics)
        return encoded, bound, tf.reduce_mean(hard.objective), metrics
