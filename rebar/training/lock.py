"""One process at a time in a folder."""

import fcntl
import os
from pathlib import Path

from rebar.errors import RebarError


class FolderLock:
    """Holds a folder for this process; flock works on the folder itself, so no file is needed.

    A process that inherits the descriptor holds it, too, until all of them have ended.

    Args:
      folder: made if missing.
      held: what a user is told when another process holds it.
      choose: the flag that names another folder.

    Raises:
      RebarError: another process holds the folder, or it cannot be made.
    """

    def __init__(self, folder: Path, held: str, choose: str = "--working_dir"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise RebarError(
                f"cannot make the folder {folder}: {error.strerror}; choose another {choose}"
            ) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise RebarError(held) from None

    def fileno(self) -> int:
        """Descriptor that holds the lock, for processes that shall hold it as well."""
        return self._handle

    def close(self) -> None:
        """Let go of the folder."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
