"""Files that are whole or absent, whatever happens while they are written."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rebar.errors import RebarError

_TEMPORARY = ".tmp"


def write_file(path: str | os.PathLike, content: bytes) -> None:
    """Write a file whole or not at all: under a temporary name beside it, synced, then renamed.

    Its folder is made if missing.

    Raises:
      RebarError: it cannot be written (names path and reason); what was there before is intact.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}{_TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(path, len(content))
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def remove_leftovers(*folders: Path) -> None:
    """Remove what a killed process was writing when it was killed, as far as that is possible."""
    for folder in folders:
        for path in folder.glob(f"*{_TEMPORARY}"):
            with suppress(OSError):
                path.unlink()


def _check_room(path: Path, size: int) -> None:
    """Raises RebarError if the file system has less than `size` bytes free."""
    found = os.statvfs(path.parent)
    blocks = found.f_bavail if os.geteuid() else found.f_bfree
    free = blocks * found.f_frsize
    # Some network file systems do not know their size.
    if found.f_blocks and free < size:
        raise RebarError(
            f"cannot write {path}: it takes {size:,} bytes, but {free:,} are free there; make "
            "room, or choose another --working_dir"
        )


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut, where the system can sync a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> RebarError:
    """What a user is told when a file of a run cannot be written."""
    return RebarError(
        f"cannot write {path}: {error.strerror or error}; make room or give the rights to write "
        "there, or choose another --working_dir"
    )


def write_json(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write strict, indented JSON, whole or not at all.

    Raises:
      RebarError: it cannot be written; names path and reason.
      ValueError: a number is not finite.
    """
    write_file(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
