"""TensorBoard events of a run; docs/tensorboard.md lists the tags.

Each start of a run writes its own file: the record of a run is metrics.jsonl.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rebar.runs.files import cannot_write


def train_tags(metrics: Mapping, log_variances: Mapping, of_q: Mapping) -> dict[str, float]:
    """Tag -> mean over an epoch; variances by label, "" for that of a single estimator."""
    known = {"elbo": "train/elbo", "multi_sample_bound": "train/bound"}
    return (
        {known.get(name, f"within_estimator/{name}"): value for name, value in metrics.items()}
        | {_labelled("variance/log_gradient_variance", n): v for n, v in log_variances.items()}
        | {_labelled("variance/log_gradient_variance_q", n): v for n, v in of_q.items()}
    )


def estimator_variance_tags(parts: Mapping[str, float], label: str) -> dict[str, float]:
    """Tag -> log variance of a part of an estimator alone; label as in `train_tags`."""
    return {_labelled(f"variance_alone/log_{n}", label): v for n, v in parts.items()}


def _labelled(tag: str, label: str) -> str:
    return f"{tag}/{label}" if label else tag


class Events:
    """A new event file in a run's folder. All methods raise RebarError if it cannot be written."""

    def __init__(self, folder: Path):
        self._folder = folder
        with self._errors():
            self._writer = tf.summary.create_file_writer(str(folder))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write a step's scalars (float32) by tag."""
        tensors = {tag: tf.constant(float(value), tf.float32) for tag, value in values.items()}
        self._write(step, tensors, "scalars", "DATA_CLASS_SCALAR")

    def images(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a step's images by tag: [height, width, 3] uint8."""
        tensors = {
            tag: tf.stack([str(image.shape[1]), str(image.shape[0]), tf.io.encode_png(image)])
            for tag, image in values.items()
        }
        self._write(step, tensors, "images", "DATA_CLASS_BLOB_SEQUENCE")

    def hparams(self, values: Mapping[str, Any], name: str) -> None:
        """Write a run's settings for the HPARAMS tab, if TensorBoard is installed."""
        with contextlib.suppress(ImportError):
            from tensorboard.plugins.hparams import api

            plain = {
                n: v if isinstance(v, str | float | int) else ",".join(v) for n, v in values.items()
            }
            with self._errors(), self._writer.as_default(step=0):
                api.hparams(plain, trial_id=name)

    def close(self) -> None:
        """Close the file."""
        with self._errors():
            self._writer.close()

    def _write(self, step: int, tensors: Mapping, plugin: str, data_class: str) -> None:
        metadata = tf.compat.v1.SummaryMetadata(data_class=data_class)
        metadata.plugin_data.plugin_name = plugin
        with self._errors(), self._writer.as_default(step=step):
            for tag, tensor in tensors.items():
                tf.summary.write(tag, tensor, metadata=metadata)
            self._writer.flush()

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except tf.errors.OpError as error:
            raise cannot_write(self._folder, OSError(error.message)) from error
