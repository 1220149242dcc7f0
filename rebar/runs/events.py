"""TensorBoard events of a run, written without TensorBoard.

    train/elbo, train/bound                    means over an epoch, nats
    valid/bound, valid/elbo, test/...          evaluations, nats
    variance/log_gradient_variance[/LABEL]     the running variance, of tracked methods by label
    variance/log_gradient_variance_q[/LABEL]   that of the weights of q alone
    variance_alone/log_PART[/LABEL]            of the estimators alone, at fixed parameters
    within_estimator/NAME                      the estimator's other metrics, e.g. temperature
    pictures/NAME                              images

A tag names the estimator only where a run has several, so that runs of different estimators lie in
one chart. Where TensorBoard is installed, the run's settings are written for its HPARAMS tab, too.

Each start of a run writes a file of its own. What older files hold beyond the checkpoint is cut, as
in metrics.jsonl, so that a reader finds every step once; a TensorBoard that has read them already
is told to forget it by the new file's first events.
"""

import contextlib
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from rebar.errors import RebarError
from rebar.runs.files import cannot_write, publish

_VERSION = "brain.Event:2"
_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\..*(?<!\.tmp)")
_FRAME = 16
"""Bytes around a record: its length and two checksums."""

HPARAMS_TAG = "_hparams_/session_start_info"


def train_tags(
    metrics: Mapping[str, float], log_variances: Mapping[str, float], of_q: Mapping[str, float]
) -> dict:
    """Tag -> value of an epoch's means.

    Args:
      metrics: "elbo", then those of the estimator.
      log_variances: by label; "" for that of a single estimator.
      of_q: the same of the weights of q alone.
    """
    known = {"elbo": "train/elbo", "multi_sample_bound": "train/bound"}
    tags = {known.get(name, f"within_estimator/{name}"): value for name, value in metrics.items()}
    for label, value in log_variances.items():
        tags[_labelled("variance/log_gradient_variance", label)] = value
    for label, value in of_q.items():
        tags[_labelled("variance/log_gradient_variance_q", label)] = value
    return tags


def estimator_variance_tags(parts: Mapping[str, float], label: str) -> dict:
    """Tag -> value of the log variances by part of an estimator alone; label as in `train_tags`."""
    return {_labelled(f"variance_alone/log_{n}", label): v for n, v in parts.items()}


def _labelled(tag: str, label: str) -> str:
    return f"{tag}/{label}" if label else tag


def _files(folder: Path) -> dict[Path, int]:
    """Event file -> the second in its name, oldest first."""
    try:
        found = {path: _NAME.fullmatch(path.name) for path in folder.iterdir()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RebarError(f"cannot read the folder {folder}: {error.strerror}") from error
    return {path: int(match[1]) for path, match in sorted(found.items()) if match}


def _read(path: Path) -> tuple[list[tuple[bytes, Any]], bool]:
    """The whole records of a file as bytes and events, and whether something broken follows."""
    records = []
    try:
        with contextlib.suppress(tf.errors.DataLossError):
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                records.append((record, tf.compat.v1.Event.FromString(record)))
        size = path.stat().st_size
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", error)
        raise RebarError(f"cannot read {path}: {reason}") from error
    except DecodeError:
        raise RebarError(
            f"{path} holds something else than TensorBoard's events; delete it or move it away"
        ) from None
    return records, size != sum(len(record) + _FRAME for record, _ in records)


def cut_after(folder: str | os.PathLike, step: int) -> list[Path]:
    """Drop events beyond `step`, and what is torn, from all event files in a folder.

    A file is replaced by a rename, or removed where no value is left in it.

    Returns:
      The files that were torn, or broken, so that events before `step` may be lost as well.

    Raises:
      RebarError: a file cannot be read or written.
    """
    broken = []
    for path in _files(Path(folder)):
        records, torn = _read(path)
        kept = [
            (record, event)
            for record, event in records
            if event.step <= step or not event.HasField("summary")
        ]
        try:
            if not any(event.HasField("summary") for _, event in kept):
                path.unlink()
            elif torn or len(kept) < len(records):
                _rewrite(path, [record for record, _ in kept])
        except (OSError, tf.errors.OpError) as error:
            raise _cannot(path, error) from error
        broken += [path] * torn
    return broken


def _rewrite(path: Path, records: list[bytes]):
    # TensorBoard reads every file whose name holds "tfevents".
    temporary = path.with_name("events-cut.tmp")
    try:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for record in records:
                writer.write(record)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _cannot(path: Path, error: Exception) -> RebarError:
    return cannot_write(path, error if isinstance(error, OSError) else OSError(error.message))


class Events:
    """A new event file of a run.

    Args:
      folder: of the run.
      step: steps done; TensorBoard forgets what it has read beyond.

    Raises:
      RebarError: (all methods, too) it cannot be written; names path and reason.
    """

    def __init__(self, folder: str | os.PathLike, step: int = 0):
        folder = Path(folder)
        older = _files(folder)
        # Readers go by the names' order, whatever the clock says.
        second = max([int(time.time()), *(s + 1 for s in older.values())])
        self._path = folder / (
            f"events.out.tfevents.{second:010d}.{socket.gethostname()}.{os.getpid()}.0.v2"
        )
        self._has_hparams = any(_holds(path, HPARAMS_TAG) for path in older)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = tf.io.TFRecordWriter(str(self._path))
        except (OSError, tf.errors.OpError) as error:
            raise _cannot(self._path, error) from error
        start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        self._append(file_version=_VERSION)
        self._append(step=step + 1, session_log=start)
        self._flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write a step's scalars (float32) by tag."""
        metadata = _metadata("scalars", "DATA_CLASS_SCALAR")
        self._summary(
            step,
            {tag: tf.make_tensor_proto(float(v), tf.float32) for tag, v in values.items()},
            metadata,
        )

    def images(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a step's images by tag: [height, width, 3] uint8."""
        metadata = _metadata("images", "DATA_CLASS_BLOB_SEQUENCE")
        tensors = {}
        for tag, image in values.items():
            height, width = image.shape[:2]
            png = tf.io.encode_png(image).numpy()
            content = [str(width).encode(), str(height).encode(), png]
            tensors[tag] = tf.make_tensor_proto(content, tf.string)
        self._summary(step, tensors, metadata)

    def hparams(self, values: Mapping[str, Any], name: str) -> None:
        """Write a run's settings for the HPARAMS tab, once a run and only with TensorBoard.

        Args:
          values: setting -> a number, string, boolean, or list of such; None is left out.
          name: of the run, its "trial".
        """
        if self._has_hparams or not values:
            return
        try:
            from tensorboard.plugins.hparams import api
        except ImportError:
            return
        plain = {n: _plain(value) for n, value in values.items() if value is not None}
        # Without a list of all settings TensorBoard puts those first in which runs differ.
        summary = api.hparams_pb(plain, trial_id=name).SerializeToString()
        self._append(step=0, summary=tf.compat.v1.Summary.FromString(summary))
        self._flush()
        self._has_hparams = True

    def close(self) -> None:
        """Close the file; nothing can be written after."""
        try:
            self._writer.close()
        except tf.errors.OpError as error:
            raise _cannot(self._path, error) from error

    def _summary(self, step, tensors, metadata):
        if not tensors:
            return
        summary = tf.compat.v1.Summary()
        for tag, tensor in tensors.items():
            summary.value.add(tag=tag, tensor=tensor, metadata=metadata)
        self._append(step=step, summary=summary)
        self._flush()

    def _append(self, **fields):
        event = tf.compat.v1.Event(wall_time=time.time(), **fields)
        try:
            self._writer.write(event.SerializeToString())
        except tf.errors.OpError as error:
            raise _cannot(self._path, error) from error

    def _flush(self):
        try:
            self._writer.flush()
        except tf.errors.OpError as error:
            raise _cannot(self._path, error) from error

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def _metadata(plugin: str, data_class: str):
    return tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": plugin}, data_class=data_class)


def _holds(path: Path, tag: str) -> bool:
    return any(value.tag == tag for _, event in _read(path)[0] for value in event.summary.value)


def _plain(value):
    """As the HPARAMS tab can show it."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
