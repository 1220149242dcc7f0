"""Checkpoints: one file each, intact or absent, with a checksum.

`checkpoint-<step>.npz` is an ordinary NumPy archive of plain arrays (nothing is pickled):

    variables/<name>    all variables of the run
    extra/<name>        other arrays, such as the records of an unfinished epoch
    description         JSON in bytes: {"step": ..., "metadata": {...}}
    checksum            SHA-256 of the names, types, shapes and bytes of all the above

Variables are those of Keras or TensorFlow.
"""

import errno
import hashlib
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
    description = json.dumps({"step": step, "metadata": metadata}, allow_nan=False, sort_keys=True)
    arrays = {"description": np.frombuffer(description.encode(), np.uint8)}
    arrays |= {f"variables/{name}": np.asarray(v.numpy()) for name, v in variables.items()}
    arrays |= {f"extra/{name}": np.asarray(value) for name, value in extra.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biufc":
            raise TypeError(f"{name} is of type {array.dtype}; only plain numbers can be saved")
    arrays["checksum"] = _checksum(arrays)
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
    paths = _paths(Path(folder))
    damaged = []
    for path in reversed(paths.values()):
        try:
            checkpoint = _load(path)
        except _DamagedError as error:
            damaged.append(f"{path} ({error})")
            continue
        for text in damaged:
            warnings.warn(
                f"damaged checkpoint {text}; going back to {path.name}",
                RuntimeWarning,
                stacklevel=2,
            )
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
    """Assign the values of the newest intact checkpoint to the variables.

    Everything is compared before anything is assigned.

    Args:
      folder: folder of the checkpoints.
      variables: name -> variable; names, shapes and types must be those saved.
      expected: metadata that must be equal to those saved, such as
        {"hparams": hparams.to_dict(), "seed": seed}; other metadata are not compared.

    Returns:
      The checkpoint, or None, with unchanged variables, if the folder holds none.

    Raises:
      RebarError: metadata or variables differ (names all that do), or no checkpoint is intact.
    """
    checkpoint = latest(folder)
    if checkpoint is None:
        return None
    differences = _metadata_differences(checkpoint.metadata, json.loads(json.dumps(expected)))
    if differences:
        raise RebarError(
            f"{checkpoint.path} is of another run: {'; '.join(differences)}. Give the old values "
            "to resume that run, or another --working_dir to start a new one"
        )
    differences = _variable_differences(checkpoint.variables, variables)
    if differences:
        raise RebarError(
            f"{checkpoint.path} does not fit the variables of this program: "
            f"{'; '.join(differences)}. Resume with the version of rebar that wrote it, or choose "
            "another --working_dir to start a new run"
        )
    for name, variable in variables.items():
        variable.assign(checkpoint.variables[name])
    return checkpoint


class _DamagedError(Exception):
    """The file was read, but is not an intact checkpoint."""


def _load(path: Path) -> Checkpoint:
    """Read and verify one file. Raises _DamagedError; RebarError if it cannot be opened."""
    try:
        content = path.read_bytes()
    except OSError as error:
        if error.errno == errno.EIO:
            raise _DamagedError(error.strerror) from error
        raise RebarError(f"cannot read {path}: {error.strerror}") from error
    # Damage to an archive surfaces as nearly any type of error.
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        checksum = arrays.pop("checksum")
        if not np.array_equal(checksum, _checksum(arrays)):
            raise _DamagedError("its checksum does not match its content")
        description = json.loads(arrays.pop("description").tobytes())
        if path.name != f"checkpoint-{description['step']}.npz":
            raise _DamagedError(f"it was written at step {description['step']}")
        groups: dict[str, dict[str, np.ndarray]] = {"variables": {}, "extra": {}}
        for name, array in arrays.items():
            group, _, own_name = name.partition("/")
            groups[group][own_name] = array
        return Checkpoint(path, description["step"], **groups, metadata=description["metadata"])
    except _DamagedError:
        raise
    except Exception as error:
        # NumPy's message would advise to unpickle it.
        raise _DamagedError(f"not a checkpoint, {type(error).__name__}") from error


def _checksum(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """[32] uint8: SHA-256 over names, types, shapes and bytes, in order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        # As JSON, so that no two different lists of arrays can run together to the same text.
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


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


def changed(checkpoint: Checkpoint, name: str, now: Mapping[str, Any]) -> list[str]:
    """Differences in an entry of the metadata, e.g. versions, in words."""
    return _metadata_differences(checkpoint.metadata.get(name, {}), dict(now), name)


def _metadata_differences(saved: Any, expected: Any, name: str = "") -> list[str]:
    """ "name: saved ..., now ..." wherever two JSON values differ, down to the innermost names."""
    if isinstance(saved, dict) and isinstance(expected, dict):
        # At the top the checkpoint may know more (versions); further in all must be equal.
        names = expected if not name else {**saved, **expected}
        return [
            difference
            for key in names
            for difference in _metadata_differences(
                saved.get(key, "(none)"), expected.get(key, "(none)"), key
            )
        ]
    return [] if saved == expected else [f"{name}: saved {saved!r}, now {expected!r}"]


def _variable_differences(
    saved: Mapping[str, np.ndarray], variables: Mapping[str, Any]
) -> list[str]:
    """Missing and unexpected variables, and those of another shape or type, in words."""
    differences = [f"{name} is not in the checkpoint" for name in variables if name not in saved]
    differences += [f"{name} is only in the checkpoint" for name in saved if name not in variables]
    for name in variables:
        if name in saved:
            old, new = saved[name], np.asarray(variables[name].numpy())
            if (old.shape, old.dtype) != (new.shape, new.dtype):
                differences.append(
                    f"{name} was {old.dtype}{list(old.shape)}, is {new.dtype}{list(new.shape)}"
                )
    return differences
