"""Atomic writes: a file is complete or absent, whatever happens meanwhile."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rebar.errors import RebarError

_TEMPORARY = ".tmp"


def write_file(path: str | os.PathLike, content: bytes) -> None:
    """Write a file atomically: under a temporary name in its folder, synced, then renamed.

    The folder is created if missing.

    Raises:
      RebarError: it cannot be written (names path and reason); what was there before is intact.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}{_TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def remove_leftovers(*folders: Path) -> None:
    """Remove incomplete files of a killed process, as far as that is possible."""
    for folder in folders:
        for path in folder.glob(f"*{_TEMPORARY}"):
            with suppress(OSError):
                path.unlink()


def cannot_write(path: Path, error: OSError) -> RebarError:
    """Return the error for a file that cannot be written."""
    return RebarError(
        f"cannot write {path}: {error.strerror or error}; free disk space, fix the permissions, "
        "or choose another folder"
    )


def write_json(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write strict, indented JSON atomically.

    Raises:
      RebarError: it cannot be written; names path and reason.
      ValueError: a number is not finite.
    """
    write_file(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
