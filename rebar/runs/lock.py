"""Lock of a folder: one process at a time."""

from pathlib import Path

import filelock

from rebar.errors import RebarError

LOCK = ".lock"


class FolderLock:
    """A folder held for this process until `close`, or the end of the process.

    Args:
      folder: created if missing.
      held: message if another process holds it.

    Raises:
      RebarError: another process holds the folder, or it cannot be created or locked.
    """

    def __init__(self, folder: Path, held: str):
        self._lock = filelock.FileLock(folder / LOCK, timeout=0, thread_local=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout:
            raise RebarError(held) from None
        except OSError as error:
            reason = error.strerror or error
            raise RebarError(
                f"cannot create or lock {folder}: {reason}; choose another folder"
            ) from error

    def close(self) -> None:
        """Release the folder."""
        self._lock.release()


def hold_run(folder: Path) -> FolderLock:
    """The lock of a run's folder."""
    return FolderLock(
        folder,
        f"another process trains in {folder}; wait for it, or choose another --working_dir, "
        "--seed or trial for a separate run",
    )


def check_run(folder: Path) -> None:
    """Raise RebarError if `hold_run` would."""
    hold_run(folder).close()
