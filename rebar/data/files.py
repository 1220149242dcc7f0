"""Reading a data file and telling whether it is whole.

Everything here treats a file as hostile until its digest matches: sizes are bounded before bytes
are decompressed, and nothing is unpickled.
"""

import gzip
import hashlib
import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rebar.data.sources import SourceFile

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_MAT_VARIABLES_BYTES = 512 * 2**20
_MAT_HEADER_BYTES = 128
_MAT_BLOCK_BYTES = 2**24
_MAT_COMPRESSED = 15


class BadFile(Exception):
    """A file that cannot be used; its text is the reason."""


class OtherContent(BadFile):
    """A well-formed file that is not the published one."""


class Unreadable(BadFile):
    """A file of which nothing is known, since it cannot be opened: it may well be sound."""

    def __init__(self, error: OSError):
        super().__init__(f"cannot be read ({error.strerror or error})")
        self.error = error


class Found(NamedTuple):
    """A usable file on disk.

    Attributes:
      path: where it lies.
      content: its uncompressed bytes.
      check: which check it passed, in words.
      published: whether it has the content that its publishers serve.
    """

    path: Path
    content: bytes
    check: str
    published: bool


def is_gzip(path: Path) -> bool:
    """Whether the file starts like a gzip (its name is not asked)."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP_MAGIC


def read_content(path: Path, max_bytes: int) -> bytes:
    """The uncompressed bytes of a plain or gzipped file.

    Raises:
      BadFile: it cannot be read (Unreadable), is a broken gzip, or holds more than `max_bytes`
        bytes.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise BadFile(f"is too big: {size} bytes, at most {max_bytes} are expected")
        if not is_gzip(path):
            return path.read_bytes()
        with gzip.open(path) as stream:
            content = stream.read(max_bytes + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadFile(f"is a broken gzip ({error})") from None
    except OSError as error:
        raise Unreadable(error) from None
    if len(content) > max_bytes:
        raise BadFile(f"decompresses to more than the {max_bytes} bytes expected")
    return content


def digest(algorithm: str, content: bytes) -> str:
    """Hexadecimal digest; "git-blob-sha1" is the name that git gives to a file's content."""
    if algorithm == "git-blob-sha1":
        return digest("sha1", b"blob %d\0" % len(content) + content)
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()


def has_digests(file: SourceFile, content: bytes) -> bool:
    """Whether the content has every digest on record for the file."""
    return all(digest(algorithm, content) == value for algorithm, value in file.digests)


def verify(file: SourceFile, content: bytes) -> tuple[str, bool]:
    """Check content against what is on record.

    Returns:
      Which check passed, in words, and whether this is the published content.

    Raises:
      BadFile: it is not the published content, nor another that may stand in for it.
    """
    algorithms = " and ".join(algorithm for algorithm, _ in file.digests)
    if has_digests(file, content):
        return f"{algorithms} of the content match", True
    array = parse(file, content)
    if file.layout == "amat" and has_digests(file, _amat_text(array)):
        return f"{algorithms} match once the white space is as published", True
    if file.other_content_allowed:
        return f"well-formed, but its {algorithms} differ from the published file's", False
    raise OtherContent(f"is well-formed, but is not the published file: its {algorithms} differ")


def find(file: SourceFile, folders: Sequence[Path]) -> tuple[Found | None, dict[Path, BadFile]]:
    """Look for a usable copy of a file, gzipped or not.

    Args:
      file: what to look for.
      folders: where, the file's own folder first. In the others, a file of another name or layout
        counts only if its content is right.

    Returns:
      The first usable copy (None where there is none), and the unusable ones with the reasons.
    """
    unusable = {}
    own, *others = folders
    paths = [own / name for name in file.names]
    elsewhere = [own / name for name in file.other_names]
    elsewhere += [folder / name for folder in others for name in (*file.names, *file.other_names)]
    for path in [*paths, *elsewhere]:
        try:
            if not path.is_file():
                continue
            content = read_content(path, file.max_bytes)
            check, published = verify(file, content)
            return Found(path, content, check, published), unusable
        except BadFile as error:
            if path in paths:
                unusable[path] = error
        except OSError as error:
            if path in paths:
                unusable[path] = Unreadable(error)
    return None, unusable


def parse(file: SourceFile, content: bytes) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """The arrays inside a file's content.

    Returns:
      amat: uint8 [n, D] of 0 and 1. idx: uint8 [n, h, w] or [n]. mat: `data` [D, n] and
      `testdata` [D, m], floating point in [0, 1].

    Raises:
      BadFile: another format, shape or range of values than the file should have.
    """
    return {"amat": _parse_amat, "idx": _parse_idx, "mat": _parse_mat}[file.layout](file, content)


def _parse_amat(file: SourceFile, content: bytes) -> np.ndarray:
    rows, columns = file.shape
    if len(content) == file.content_bytes:
        # Every value is one digit and one separator, so that no parsing is needed.
        pairs = np.frombuffer(content, np.uint8).reshape(rows, columns, 2)
        separators = pairs[:, :, 1]
        if (separators[:, :-1] == ord(" ")).all() and (separators[:, -1] == ord("\n")).all():
            values = pairs[:, :, 0] - np.uint8(ord("0"))
            if values.max() > 1:
                raise BadFile("holds other values than 0 and 1")
            return values
    if len(content) < file.content_bytes - rows:
        raise BadFile(f"is cut short: {len(content)} bytes of text, not {file.content_bytes}")
    if content.isspace():  # loadtxt would warn of it and go on
        raise BadFile("is blank")
    try:
        values = np.loadtxt(io.BytesIO(content), dtype=np.float32, ndmin=2, comments=None)
    except (ValueError, UnicodeDecodeError) as error:
        raise BadFile(f"is not a table of numbers ({error})") from None
    if values.shape != file.shape:
        raise BadFile(f"holds a table of shape {values.shape}, not {file.shape}")
    if not np.isin(values, (0, 1)).all():
        raise BadFile("holds other values than 0 and 1")
    return values.astype(np.uint8)


def _amat_text(values: np.ndarray) -> bytes:
    """The text in which the publishers write this table."""
    text = np.full((*values.shape, 2), ord(" "), np.uint8)
    text[:, :, 0] = values + ord("0")
    text[:, -1, 1] = ord("\n")
    return text.tobytes()


def _parse_idx(file: SourceFile, content: bytes) -> np.ndarray:
    rank = len(file.shape)
    expected = struct.pack(f">I{rank}I", 0x0800 + rank, *file.shape)
    header = content[: len(expected)]
    if header[:4] != expected[:4]:
        raise BadFile(f"does not start like an IDX file of {rank} dimensions: {header[:16]!r}")
    if header != expected:
        count = (len(header) - 4) // 4
        shape = struct.unpack(f">{count}I", header[4 : 4 + 4 * count])
        raise BadFile(f"holds an array of shape {shape}, not {file.shape}")
    if len(content) != file.content_bytes:
        raise BadFile(f"holds {len(content)} bytes, not {file.content_bytes}")
    values = np.frombuffer(content, np.uint8, offset=len(expected)).reshape(file.shape)
    if rank == 1 and values.max() > 9:
        raise BadFile("holds labels above 9")
    return values


def _check_mat_size(content: bytes) -> None:
    """Refuse a MATLAB 5 file whose compressed variables are cut short or expand too far.

    SciPy would expand them without a bound.
    """
    if not content.startswith(b"MATLAB 5.0 MAT-file") or content[126:128] not in (b"IM", b"MI"):
        raise BadFile(f"does not start like a MATLAB 5 file: {content[:24]!r}")
    order = "<" if content[126:128] == b"IM" else ">"
    position, left = _MAT_HEADER_BYTES, _MAX_MAT_VARIABLES_BYTES
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(order + "II", content, position)
        position += 8
        if position + size > len(content):
            raise BadFile("is cut short in the middle of a variable")
        if kind == _MAT_COMPRESSED:
            left -= _expanded_size(content[position : position + size], left)
        position += size
    if position != len(content):
        raise BadFile("is cut short in the middle of a variable")


def _expanded_size(compressed: bytes, max_bytes: int) -> int:
    """How many bytes a zlib stream expands to, found in bounded memory."""
    stream, size = zlib.decompressobj(), 0
    while not stream.eof:
        try:
            block = stream.decompress(compressed, _MAT_BLOCK_BYTES)
        except zlib.error as error:
            raise BadFile(f"holds a broken variable ({error})") from None
        size += len(block)
        compressed = stream.unconsumed_tail
        if size > max_bytes:
            raise BadFile(f"expands to more than the {_MAX_MAT_VARIABLES_BYTES} bytes expected")
        if not block and not compressed and not stream.eof:
            raise BadFile("holds a variable that is cut short")
    return size


def _parse_mat(file: SourceFile, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    import scipy.io  # slow to import, and only this data set needs it

    _check_mat_size(content)
    names = ("data", "testdata")
    try:
        listed = {
            name: (shape, kind) for name, shape, kind in scipy.io.whosmat(io.BytesIO(content))
        }
        for name, shape in zip(names, file.shape, strict=True):
            if listed.get(name) not in ((shape, "double"), (shape, "single")):
                raise BadFile(
                    f"should hold a matrix {name!r} of shape {shape}; "
                    f"has {listed.get(name, 'none of that name')}"
                )
        variables = scipy.io.loadmat(io.BytesIO(content), variable_names=names)
    except BadFile:
        raise
    except Exception as error:  # SciPy's reader raises many types on damaged input
        raise BadFile(f"is not a readable MATLAB 5 file ({error})") from None
    arrays = tuple(np.asarray(variables[name]) for name in names)
    for name, array in zip(names, arrays, strict=True):
        if array.dtype.kind != "f":
            raise BadFile(f"holds {name!r} as {array.dtype}, not as floating point numbers")
        if not (array.min() >= 0 and array.max() <= 1):  # also catches not-a-number
            raise BadFile(f"holds values outside [0, 1] in {name!r}")
    return arrays
