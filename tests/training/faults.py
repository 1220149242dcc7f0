"""Faults at every point where a run touches its folder: what a kill leaves, and calls that fail."""

import builtins
import contextlib
import errno
import io
import os
from pathlib import Path

import pytest

from rebar.runs.lock import LOCK


def files(folder: Path) -> dict[str, bytes]:
    """All files in a folder but its lock by their names in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LOCK
    }


def put(folder: Path, content: dict[str, bytes]) -> None:
    """Make a folder what `files` said of one."""
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@contextlib.contextmanager
def calls(folder: Path, before):
    """Inside, before(name, path) is called ahead of whatever changes something in a folder.

    A write is two calls, the second with half of the data in the file already. What TensorFlow
    writes, the events, is not seen.
    """
    folder = str(folder)

    def inside(path):
        return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(folder)

    class Written:
        """A file whose writes are interrupted half-way."""

        def __init__(self, file, path):
            self._file, self._path = file, path

        def __getattr__(self, name):
            return getattr(self._file, name)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self._file.close()

        def write(self, data):
            before("write", self._path)
            half = len(data) // 2
            self._file.write(data[:half])
            self._file.flush()
            before("write the rest", self._path)
            self._file.write(data[half:])

    real_open, real = builtins.open, {}

    def opening(path, mode="r", *arguments, **keywords):
        if not inside(path) or not set(mode) & set("wax+"):
            return real_open(path, mode, *arguments, **keywords)
        before("open", path)
        return Written(real_open(path, mode, *arguments, **keywords), path)

    def patched(name):
        def call(path, *arguments, **keywords):
            if name == "fsync":
                before(name, os.readlink(f"/proc/self/fd/{path}"))
            elif inside(path):
                before(name, path)
            return real[name](path, *arguments, **keywords)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", opening)
        patch.setattr(io, "open", opening)
        for name in ("replace", "fsync", "unlink", "mkdir"):
            real[name] = getattr(os, name)
            patch.setattr(os, name, patched(name))
        yield


class Kills:
    """What a kill ahead of each call would leave behind, in order and each state once."""

    def __init__(self, folder: Path):
        self.states: list[dict[str, bytes]] = []
        self.calls = 0
        self._folder = folder

    def __call__(self, name, path):
        self.calls += 1
        state = files(self._folder)
        if not self.states or state != self.states[-1]:
            self.states.append(state)


class Failure:
    """The call of a number fails, and nothing works after it; see errno for the codes."""

    def __init__(self, number: int, code: int):
        self._left, self._code = number, code
        self.failed = None

    def __call__(self, name, path):
        self._left -= 1
        if self._left >= 0 or (self.failed and name == "unlink"):
            return
        self.failed = self.failed or name
        reason = os.strerror(self._code)
        raise OSError(self._code, reason, str(path))


CODES = (errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.EIO, errno.EDQUOT)
