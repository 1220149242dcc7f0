"""Checkpoints: one file a checkpoint, whole or absent, and proof against silent damage.

`checkpoint-<step>.npz` is an ordinary NumPy archive of plain arrays (nothing is pickled):

    variables/<name>    every variable of the run, by the names that the caller gives
    extra/<name>        other arrays, such as the records of an epoch that is not over
    description         JSON in bytes: {"step": ..., "metadata": {...}}
    checksum            SHA-256 of the names, types, shapes and bytes of all the above

A variable is anything with `.numpy()` and `.assign()`: a Keras or a TensorFlow variable.
"""

import errno
import hashlib
import io
import json
import os
import re
import warnings
import zipfile
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
    """What one file holds.

    Attributes:
      path: of the file.
      step: steps done.
      variables: name -> array.
      extra: name -> array, as given to `save`.
      metadata: as given to `save`, after a round trip through JSON (tuples are lists).
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
    """Write `checkpoint-<step>.npz`; once it is whole, keep only it and the one before.

    A checkpoint of a later step goes too: it was damaged, or the run would have resumed there.

    Args:
      folder: of the checkpoints; made if missing.
      step: steps done.
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

    folder = Path(folder)
    path = folder / f"checkpoint-{step}.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RebarError(
            f"cannot make the folder {folder}: {error.strerror}; choose another --working_dir"
        ) from error
    write_file(path, content.getvalue())
    remove_older(folder, step, later=True)
    remove_leftovers(folder)
    return path


def latest(folder: str | os.PathLike) -> Checkpoint | None:
    """The newest checkpoint that is whole; None if the folder holds none at all.

    Warns (RuntimeWarning) of each newer one that is damaged, by name.

    Raises:
      RebarError: there are checkpoints, but none is whole, or one cannot be opened.
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
            f"no checkpoint is whole: {'; '.join(damaged)}. To start afresh, delete them or choose "
            "another --working_dir"
        )
    return None


def restore(
    folder: str | os.PathLike, variables: Mapping[str, Any], expected: Mapping[str, Any]
) -> Checkpoint | None:
    """Put the values of the newest whole checkpoint into the variables.

    Everything is compared before anything is assigned.

    Args:
      folder: of the checkpoints.
      variables: name -> variable; names, shapes and types must be those saved, no more, no less.
      expected: metadata that must be equal to what was saved, such as
        {"hparams": hparams.to_dict(), "seed": seed}; other metadata is not compared.

    Returns:
      The checkpoint, or None, with the variables untouched, if the folder holds none.

    Raises:
      RebarError: metadata or variables differ (names all that do), or no checkpoint is whole.
    """
    checkpoint = latest(folder)
    if checkpoint is None:
        return None
    differences = _metadata_differences(checkpoint.metadata, json.loads(json.dumps(expected)))
    if differences:
        raise RebarError(
            f"{checkpoint.path} is of another run: {'; '.join(differences)}. Give the old values "
            "to go on with that run, or another --working_dir to start a new one"
        )
    differences = _variable_differences(checkpoint.variables, variables)
    if differences:
        raise RebarError(
            f"{checkpoint.path} does not fit the variables of this program: "
            f"{'; '.join(differences)}. Go on with the version of the program that wrote it, or "
            "choose another --working_dir to start a new run"
        )
    for name, variable in variables.items():
        variable.assign(checkpoint.variables[name])
    return checkpoint


class _DamagedError(Exception):
    """The file was read, but is not a whole checkpoint."""


def _load(path: Path) -> Checkpoint:
    """Read and verify one file. Raises _DamagedError; RebarError if it cannot be opened."""
    try:
        content = path.read_bytes()
    except OSError as error:
        if error.errno == errno.EIO:
            raise _DamagedError(error.strerror) from error
        raise RebarError(f"cannot read {path}: {error.strerror}") from error
    # The bytes are here, so whatever goes wrong in making sense of them is damage, and damage to
    # an archive surfaces as nearly any type of error.
    try:
        arrays = _arrays(content)
        checksum = arrays.pop("checksum")
        if not np.array_equal(checksum, _checksum(arrays)):
            raise _DamagedError("its checksum does not match its content")
        description = json.loads(arrays.pop("description").tobytes())
        if path.name != f"checkpoint-{description['step']}.npz":
            raise _DamagedError(f"it was written as that of step {description['step']}")
        groups: dict[str, dict[str, np.ndarray]] = {"variables": {}, "extra": {}}
        for name, array in arrays.items():
            group, _, own_name = name.partition("/")
            groups[group][own_name] = array
        return Checkpoint(path, description["step"], **groups, metadata=description["metadata"])
    except _DamagedError:
        raise
    except Exception as error:
        # NumPy's own words would advise to unpickle it.
        raise _DamagedError(f"not what a checkpoint is, {type(error).__name__}") from error


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an archive, none of which can take more memory than the archive itself."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        members = archive.zip.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise _DamagedError("it is compressed, which checkpoints are not")
        if sum(member.file_size for member in members) > len(content):
            raise _DamagedError("it says that it holds more than it can")
        return {name: archive[name] for name in archive.files}


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


def remove_older(folder: Path, step: int, later: bool = False) -> None:
    """Remove all checkpoints before this step's but the newest; those of later steps if asked to.

    It is also to be called where a run goes on: a kill may have come before it.
    """
    # Not being able to tidy up is no reason to end a run.
    with suppress(OSError, RebarError):
        paths = _paths(folder)
        keep = [s for s in paths if s <= step][-_KEPT:]
        for s, path in paths.items():
            if s not in keep and (later or s < step):
                path.unlink()


def changed(checkpoint: Checkpoint, name: str, now: Mapping[str, Any]) -> list[str]:
    """In words, what of an entry of the metadata, e.g. versions, is not as it was saved."""
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
    """What is missing, unexpected, or of another shape or type, in words."""
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
