"""Checkpoints: one file each, intact or absent.

`checkpoint-<step>.npz` is an ordinary NumPy archive of plain arrays (nothing is pickled), with the
CRC-32 of each that every ZIP archive has:

    variables/<name>    all variables of the run
    extra/<name>        other arrays, such as the records of an unfinished epoch
    description         JSON in bytes: {"step": ..., "names": [...], "metadata": {...}}

Variables are those of Keras or TensorFlow.
"""

import errno
import io
import json
import os
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rebar.errors import RebarError
from rebar.runs.files import remove_leftovers, write_file

_KEPT = 2
_NAME = re.compile(r"checkpoint-(\d+)\.npz")


class Checkpoint(NamedTuple):
    """Content of a checkpoint.

    Attributes:
      path: path of the file.
      step: number of training steps.
      variables: name -> array.
      extra: name -> array, as passed to `save`.
      metadata: as passed to `save`, after a round trip through JSON (tuples are lists).
    """

    path: Path
    step: int
    variables: dict[str, np.ndarray]
    extra: dict[str, np.ndarray]
    metadata: dict[str, Any]


def save(
    folder: str | os.PathLike,
    step: int,
    variables: Mapping[str, Any],
    extra: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
) -> Path:
    """Write `checkpoint-<step>.npz`, then `tidy` the folder.

    Args:
      folder: folder of the checkpoints; created if missing.
      step: number of training steps.
      variables: name -> variable.
      extra: name -> array of numbers.
      metadata: JSON values: hparams, seed, versions.

    Returns:
      The path of the file.

    Raises:
      RebarError: the file cannot be written; names path and reason. Earlier checkpoints are
        intact.
      TypeError: an array is not of plain numbers and could not be read back.
    """
    arrays = {f"variables/{name}": np.asarray(v.numpy()) for name, v in variables.items()}
    arrays |= {f"extra/{name}": np.asarray(value) for name, value in extra.items()}
    description = {"step": step, "names": [*arrays], "metadata": metadata}
    text = json.dumps(description, allow_nan=False, sort_keys=True)
    arrays["description"] = np.frombuffer(text.encode(), np.uint8)
    for name, array in arrays.items():
        if array.dtype.kind not in "biufc":
            raise TypeError(f"{name} is of type {array.dtype}; only plain numbers can be saved")
    # In memory first: an archive that fails half-way would hide the reason behind its own clean-up.
    content = io.BytesIO()
    np.savez(content, **arrays)
    path = Path(folder) / f"checkpoint-{step}.npz"
    write_file(path, content.getvalue())
    tidy(Path(folder), step)
    return path


def latest(folder: str | os.PathLike) -> Checkpoint | None:
    """The newest intact checkpoint, or None if the folder holds no checkpoint.

    Warns (RuntimeWarning) of each newer one that is damaged, by name.

    Raises:
      RebarError: there are checkpoints, but none is intact, or one cannot be opened.
    """
    damaged: list[str] = []
    for path in reversed(_paths(Path(folder)).values()):
        try:
            checkpoint = _load(path)
        except RebarError:
            raise
        except Exception as error:
            # Damage to an archive surfaces as nearly any type of error.
            reason = getattr(error, "strerror", None) or type(error).__name__
            damaged.append(f"{path} ({reason})")
            continue
        if damaged:
            text = f"damaged checkpoint {'; '.join(damaged)}; going back to {path.name}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return checkpoint
    if damaged:
        raise RebarError(
            f"no intact checkpoint found: {'; '.join(damaged)}. To start again, delete them or "
            "choose another --working_dir"
        )
    return None


def restore(
    folder: str | os.PathLike, variables: Mapping[str, Any], expected: Mapping[str, Any]
) -> Checkpoint | None:
    """Assign the values of the newest intact checkpoint, if there is one; return it.

    See `latest` and `assign`.
    """
    saved = latest(folder)
    if saved is not None:
        assign(saved, variables, expected)
    return saved


def assign(saved: Checkpoint, variables: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Assign the values of a checkpoint to the variables, once everything is compared.

    Args:
      saved: the checkpoint.
      variables: name -> variable; names, shapes and types must be those saved.
      expected: metadata that must be equal to those saved, such as
        {"hparams": hparams.to_dict(), "seed": seed}; other metadata are not compared.

    Raises:
      RebarError: metadata or variables differ (names all that do).
    """
    metadata = {name: saved.metadata.get(name, "(none)") for name in expected}
    changes = differences(metadata, json.loads(json.dumps(expected)))
    reason, fix = "is of another run", "Give the old values"
    if not changes:
        changes = differences(_shapes(saved.variables), _shapes(variables))
        reason, fix = "does not fit the variables of this program", "Use the old version of rebar"
    if changes:
        raise RebarError(
            f"{saved.path} {reason}: {'; '.join(changes)}. {fix} to resume that run, or another "
            "--working_dir to start a new one"
        )
    for name, variable in variables.items():
        variable.assign(saved.variables[name])


def _load(path: Path) -> Checkpoint:
    """Read and verify one file. Raises RebarError if it cannot be opened; any other: damaged."""
    try:
        content = path.read_bytes()
    except OSError as error:
        if error.errno == errno.EIO:
            raise
        raise RebarError(f"cannot read {path}: {error.strerror}") from error
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        if archive.zip.testzip():
            raise ValueError("a checksum does not match")
        arrays = {name: archive[name] for name in archive.files}
    description = json.loads(arrays.pop("description").tobytes())
    if "names" not in description:  # earlier files have a checksum of their own
        del arrays["checksum"]
        description["names"] = [*arrays]
    if path.name != f"checkpoint-{description['step']}.npz" or description["names"] != [*arrays]:
        raise ValueError("another step, or not all arrays")
    groups: dict[str, dict[str, np.ndarray]] = {"variables": {}, "extra": {}}
    for name, array in arrays.items():
        group, _, own_name = name.partition("/")
        groups[group][own_name] = array
    return Checkpoint(path, description["step"], **groups, metadata=description["metadata"])


def _paths(folder: Path) -> dict[int, Path]:
    """Step -> file of all checkpoints in a folder, by step; empty if there is no such folder."""
    try:
        matches = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RebarError(f"cannot read the folder {folder}: {error.strerror}") from error
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def tidy(folder: Path, step: int) -> None:
    """Remove all checkpoints but that of this step and the one before, after a save or a kill.

    A checkpoint of a later step is damaged, or the run would have resumed there. Removes leftovers
    of a killed process, too.
    """
    # Failing to tidy up is no reason to end a run.
    with suppress(OSError, RebarError):
        paths = _paths(folder)
        for other in {*paths} - {*[s for s in paths if s <= step][-_KEPT:]}:
            paths[other].unlink()
    remove_leftovers(folder)


def differences(saved: Any, now: Any, name: str = "") -> list[str]:
    """ "name: saved ..., now ..." wherever two JSON values differ, down to the innermost names."""
    if isinstance(saved, dict) and isinstance(now, dict):
        pairs = ((key, saved.get(key, "(none)"), now.get(key, "(none)")) for key in saved | now)
        return [text for key, *values in pairs for text in differences(*values, key)]
    return [] if saved == now else [f"{name}: saved {saved!r}, now {now!r}"]


def _shapes(variables: Mapping[str, Any]) -> dict[str, str]:
    """Type and shape of variables or arrays, such as "float32[3, 2]"."""
    arrays = {n: v.numpy() if hasattr(v, "numpy") else v for n, v in variables.items()}
    return {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}
