"""Lock of a folder: one process at a time."""

import contextlib
import datetime
import os
import socket
from pathlib import Path

import filelock

from rebar.errors import RebarError

LOCK = ".lock"
HOLDER = ".holder"
"""File that names the holder for people; the lock itself is the system's."""

_LONGEST = 200


class FolderLock:
    """A folder held for this process until `close`, or the end of the process.

    Args:
      folder: created if missing.
      held: what is printed when another process holds it; the holder's name is appended.
      choose: the flag that names another folder.

    Raises:
      RebarError: another process holds the folder, or it cannot be created or locked.
    """

    def __init__(self, folder: Path, held: str, choose: str = "--working_dir"):
        self._holder = folder / HOLDER
        self._lock = filelock.FileLock(folder / LOCK, timeout=0, thread_local=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout:
            raise RebarError(f"{held}{self._held_by()}") from None
        except OSError as error:
            raise _unusable(folder, error.strerror or str(error), choose) from error
        # A failure to say so, as on a full disk, does not make the lock weaker.
        with contextlib.suppress(OSError):
            now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
            self._holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}")

    def _held_by(self) -> str:
        try:
            note = self._holder.read_text(errors="replace")[:_LONGEST]
        except OSError:
            return ""
        return f"; held by {note}" if note and note.isprintable() else ""

    def close(self) -> None:
        """Release the folder."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                self._holder.unlink()
            self._lock.release()


def hold_run(folder: Path) -> FolderLock:
    """The lock of a run's folder."""
    return FolderLock(
        folder,
        f"another process trains in {folder}; wait for it, or choose another --working_dir, "
        "--seed or trial for a separate run",
    )


def check_run(folder: Path) -> None:
    """Raise RebarError if `hold_run` would, without creating the folder."""
    existing = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if existing == folder:
        hold_run(folder).close()
    elif not existing.is_dir():
        raise _unusable(folder, f"{existing} is not a folder")
    elif not os.access(existing, os.W_OK | os.X_OK):
        raise _unusable(folder, f"no permission to write in {existing}")


def _unusable(folder: Path, reason: str, choose: str = "--working_dir") -> RebarError:
    return RebarError(f"cannot create or lock {folder}: {reason}; choose another {choose}")
