"""Verified data files and the arrays inside them; nothing is unpickled."""

import gzip
import hashlib
import io
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rebar.data.sources import SourceFile

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_BYTES = 2**29
"""More than any file holds: the rest of a gzip bomb is not expanded."""


class BadFile(Exception):
    """A file that cannot be used; its text is the reason."""


class UnreadableFile(BadFile):
    """A file that cannot be opened and may well be intact."""


class Found(NamedTuple):
    """A usable file: its uncompressed content, and the result of its check in words.

    `published` is whether the content is the published one; `.amat` text with other white space is
    replaced by it. `zipped` is whether the file is a gzip, whatever its name.
    """

    path: Path
    content: bytes
    check: str
    published: bool
    zipped: bool


def digest(algorithm: str, content: bytes) -> str:
    """Hexadecimal digest; "git-blob-sha1" is the name that git gives to a file's content."""
    if algorithm == "git-blob-sha1":
        return digest("sha1", b"blob %d\0" % len(content) + content)
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()


def examine(file: SourceFile, path: Path) -> Found:
    """Read a plain or gzipped file and verify its checksum. Raises BadFile or UnreadableFile."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"cannot be read ({error.strerror or error})") from None
    zipped = content.startswith(_GZIP_MAGIC)
    if zipped:
        try:
            with gzip.open(io.BytesIO(content)) as stream:
                content = stream.read(_MAX_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadFile(f"is a damaged gzip ({error})") from None
    algorithm, _, expected = file.checksum.partition(":")
    for form in (lambda: content, lambda: _published_text(file, content)):
        if digest(algorithm, text := form()) == expected:
            return Found(path, text, f"{algorithm} of the content matches", True, zipped)
    if file.other_content_allowed:
        parse(file, content)
        check = f"well-formed, but its {algorithm} differs from the published file's"
        return Found(path, content, check, False, zipped)
    raise BadFile(f"is not the published file: {len(content)} bytes with another {algorithm}")


def _published_text(file: SourceFile, content: bytes) -> bytes:
    """`.amat` text with the published white space, if it has the right number of values."""
    if file.layout != "amat":
        return b""
    characters = np.frombuffer(content, np.uint8)
    values = characters[characters > ord(" ")]
    if values.size != math.prod(file.shape):
        return b""
    text = np.full([*file.shape, 2], ord(" "), np.uint8)
    text[..., 0] = values.reshape(file.shape)
    text[:, -1, 1] = ord("\n")
    return text.tobytes()


def find(file: SourceFile, folders: Sequence[Path]) -> tuple[Found | None, dict[Path, BadFile]]:
    """Return the first usable copy of a file, gzipped or not, and the unusable ones before it.

    The first folder is the file's own. Unusable files of another name or in another folder are
    passed over: they may belong to another data set.
    """
    unusable = {}
    for folder in folders:
        for name in (*file.names, *file.other_names):
            path = folder / name
            try:
                if os.path.isfile(path):
                    return examine(file, path), unusable
            except BadFile as error:
                if folder == folders[0] and name in file.names:
                    unusable[path] = error
    return None, unusable


def parse(file: SourceFile, content: bytes) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Return the arrays inside the content of a file that `examine` accepted.

    amat: uint8 [n, D] of 0 and 1. idx: uint8 [n, h, w] or [n]. mat: `data` [D, n] and `testdata`
    [D, m], floating point in [0, 1]. Raises BadFile if a "mat" file has other contents.
    """
    if file.layout == "amat":  # one digit and one separator per value
        return np.frombuffer(content, np.uint8)[::2].reshape(file.shape) - np.uint8(ord("0"))
    if file.layout == "idx":
        return np.frombuffer(content, np.uint8, offset=4 + 4 * len(file.shape)).reshape(file.shape)
    return _parse_mat(file, content)


def _parse_mat(file: SourceFile, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    import scipy.io  # slow to import, and only this data set needs it

    names = ("data", "testdata")
    try:
        variables = scipy.io.loadmat(io.BytesIO(content), variable_names=names)
    except Exception as error:  # SciPy's reader raises many types on damaged input
        raise BadFile(f"is not a readable MATLAB 5 file ({error})") from None
    arrays = tuple(np.asarray(variables.get(name)) for name in names)
    for name, array, shape in zip(names, arrays, file.shape, strict=True):
        if array.shape != shape or array.dtype.kind != "f":
            raise BadFile(f"must hold a real matrix {name!r} of shape {shape}")
        if not (array.min() >= 0 and array.max() <= 1):  # also catches not-a-number
            raise BadFile(f"holds values outside [0, 1] in {name!r}")
    return arrays
