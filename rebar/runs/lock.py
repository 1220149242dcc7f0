"""One process at a time in a folder."""

import contextlib
import datetime
import fcntl
import json
import os
import socket
from pathlib import Path

from rebar.errors import RebarError

HOLDER = ".holder"
"""File that says who holds the folder. It is for people: what holds is the lock of the system."""


class FolderLock:
    """Holds a folder for this process, by flock on the folder itself.

    The lock ends with the process, however it ends. A process that inherits the descriptor holds
    it, too, until all of them have ended. On a network file system the machines may not see each
    other's locks: then there is only `left_elsewhere`.

    Args:
      folder: made if missing.
      held: what a user is told when another process holds it; who does is added.
      choose: the flag that names another folder.

    Attributes:
      left_elsewhere: who on another machine held the folder last and did not let go, because it
        was killed or because it still runs; None: nobody.

    Raises:
      RebarError: another process holds the folder, or it cannot be made or locked.
    """

    def __init__(self, folder: Path, held: str, choose: str = "--working_dir"):
        self._holder = folder / HOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise RebarError(
                f"cannot make the folder {folder}: {error.strerror}; choose another {choose}"
            ) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._handle)
            if not isinstance(error, BlockingIOError):
                raise RebarError(
                    f"cannot lock the folder {folder}: {error.strerror}; choose another {choose} "
                    "on a file system that has locks"
                ) from error
            raise RebarError(f"{held}{_words(self._read())}") from None
        last = self._read()
        here = socket.gethostname()
        self.left_elsewhere = None if last.get("host", here) == here else _words(last)[2:]
        # Not being able to say so, as on a full disk, does not make the lock weaker.
        with contextlib.suppress(OSError):
            now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
            self._holder.write_text(
                json.dumps({"process": os.getpid(), "host": here, "since": now}) + "\n"
            )

    def _read(self) -> dict:
        """What the file says; empty if there is none, or nothing that can be read."""
        try:
            content = json.loads(self._holder.read_bytes())
            return {key: str(content[key])[:100] for key in ("process", "host", "since")}
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return {}

    def fileno(self) -> int:
        """Descriptor that holds the lock, for processes that shall hold it as well."""
        return self._handle

    def close(self) -> None:
        """Let go of the folder."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                self._holder.unlink()
            os.close(self._handle)
            self._handle = None


def _words(holder: dict) -> str:
    """Who holds a folder, to be put behind a sentence."""
    if not holder:
        return ""
    return "; held by process {process} on {host}, or one that it started, since {since}".format(
        **holder
    )
