"""Fetching one file from one URL: bounded in time, in size and in tries, and resumable.

What the server does is told as a TransferError, what this machine lacks (room, rights, file
descriptors) as an OSError.
"""

import errno
import http.client
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from rebar.data.connection import Gate, TransferError, opener

_BLOCK_BYTES = 2**18
_MAX_DELAY_S = 30.0
_NUMBER = r"([0-9]{1,18})"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})


class Policy(NamedTuple):
    """How patient to be.

    Attributes:
      timeout: seconds to wait for a connection, and for the next kilobyte once connected.
      retries: how often to try the same URL again after a failure that may pass.
      backoff: seconds before the first such try; doubled for each further one, up to 30.
      limit: seconds for all tries at a URL together.
    """

    timeout: float = 30.0
    retries: int = 3
    backoff: float = 1.0
    limit: float = 3600.0


def copy_local(path: Path, part: Path, max_bytes: int) -> None:
    """Copy a local file to `part`.

    Raises:
      TransferError: it is missing, unreadable or longer than `max_bytes` bytes.
      OSError: `part` cannot be written; nothing of it is left.
    """
    try:
        stream = path.open("rb")
        size = path.stat().st_size
    except OSError as error:
        if error.errno in _NO_DESCRIPTORS:
            raise
        raise TransferError(error.strerror or str(error)) from None
    with stream:
        if size > max_bytes:
            raise TransferError(f"too big: {size} bytes, at most {max_bytes} are expected")
        _check_room(part.parent, size)
        left = max_bytes
        try:
            with part.open("wb") as out:
                while block := _local_block(stream):
                    left -= len(block)
                    if left < 0:  # it grows, or its size was no file's
                        raise TransferError(f"too big: more than the {max_bytes} bytes expected")
                    out.write(block)
        except (OSError, TransferError):
            part.unlink(missing_ok=True)
            raise


def _local_block(stream) -> bytes:
    try:
        return stream.read(_BLOCK_BYTES)
    except OSError as error:
        raise TransferError(error.strerror or str(error)) from None


def _check_room(folder: Path, needed: int) -> None:
    """Raise OSError where a folder has no room for so many bytes more."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"no room: {needed / 2**20:.1f} MiB more are needed, {free / 2**20:.1f} MiB are free",
        )


def fetch(url: str, part: Path, max_bytes: int, policy: Policy, log) -> bool:
    """Fetch an http or https URL into `part`, going on from what `part` already holds.

    Args:
      url: where to fetch from.
      part: the file to complete; what came before a failure stays in it.
      max_bytes: most bytes that the file may have.
      policy: time-outs and retries.
      log: called with a line of text before each further try.

    Returns:
      Whether bytes from an earlier try were kept, so that a file that turns out to be wrong is
      worth fetching from the start.

    Raises:
      TransferError: it did not come; the text says why.
      OSError: `part` cannot be written. Where the disk is full nothing of it is left.
    """
    resumed = False
    deadline = time.monotonic() + policy.limit
    too_late = f"not done within {policy.limit:g} s; what came is kept, the same command goes on"
    for attempt in range(policy.retries + 1):
        try:
            gate = Gate(policy.timeout, deadline, too_late)
            return _attempt(url, part, max_bytes, gate) or resumed
        except TransferError as error:
            if not error.passing or attempt == policy.retries:
                raise
            delay = min(policy.backoff * 2**attempt, _MAX_DELAY_S)
            if time.monotonic() + delay > deadline:
                raise TransferError(f"{error}; {too_late}") from None
            log(f"  {error}; trying again in {delay:g} s ({attempt + 1} of {policy.retries})")
            time.sleep(delay)
    raise AssertionError("the last try returns or raises")


def _attempt(url: str, part: Path, max_bytes: int, gate: Gate) -> bool:
    """One try at completing `part`; returns whether earlier bytes were kept."""
    have = part.stat().st_size if part.exists() else 0
    response, start = _open(url, have, gate)
    with response:
        length = re.fullmatch(_NUMBER, response.headers.get("Content-Length", "").strip())
        total = start + int(length[1]) if length else None
        if total is not None:
            if total > max_bytes:
                raise TransferError(f"too big: {total} bytes, at most {max_bytes} are expected")
            _check_room(part.parent, total - start)
        gate.allow(2 * max_bytes)  # chunks may be small, and each has a head of its own
        try:
            with part.open("ab" if start else "wb") as out:
                received = _receive(response, out, start, total, max_bytes, gate.timeout)
        except TransferError as error:
            if error.spoiled:  # nothing can be made of what came
                part.unlink()
            raise
        except OSError as error:
            if error.errno in _DISK_FULL:  # others may need the room
                part.unlink(missing_ok=True)
            raise
    if total is not None and received < total:
        raise TransferError(f"connection closed after {received} of {total} bytes", passing=True)
    return start > 0


def _open(url: str, have: int, gate: Gate) -> tuple[http.client.HTTPResponse, int]:
    """Open a URL from byte `have` on; the result says from where the server really sends."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "rebar-download"})
        request.add_header("Accept-Encoding", "identity")
        if have:
            request.add_header("Range", f"bytes={have}-")
        response = opener(gate).open(request, timeout=gate.wait())
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == 416:  # what lies here is no beginning of that file
            return _open(url, 0, gate)
        reason = f"HTTP {error.code} {error.reason}".strip()
        raise TransferError(reason, error.code in _WORTH_ANOTHER_TRY) from None
    except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:
        raise _as_transfer_error(error, gate.timeout) from None
    if response.status != 206:
        return response, 0
    sent = re.match(f"bytes {_NUMBER}-", response.headers.get("Content-Range", ""))
    if have and sent and int(sent[1]) == have:
        return response, have
    response.close()
    if not have:
        raise TransferError("the server sent a part of the file without being asked to")
    return _open(url, 0, gate)


def _receive(response, out, start: int, total: int | None, max_bytes: int, timeout: float) -> int:
    """Write what comes to `out`; returns the file's length so far."""
    from tqdm import tqdm

    received = start
    # disable=None: no bar where stderr is not a terminal.
    with tqdm(total=total, initial=start, unit="B", unit_scale=True, disable=None) as bar:
        while True:
            try:
                block = response.read1(_BLOCK_BYTES)  # read() would wait for the whole block
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _as_transfer_error(error, timeout) from None
            if not block:
                return received
            received += len(block)
            if received > max_bytes:
                raise TransferError(
                    f"too big: more than the {max_bytes} bytes expected", spoiled=True
                )
            out.write(block)
            bar.update(len(block))


def _as_transfer_error(error: Exception, timeout: float) -> Exception:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, OSError) and cause.errno in _NO_DESCRIPTORS:
        return cause
    if isinstance(cause, TimeoutError):
        return TransferError(f"no answer within {timeout:g} s", passing=True)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TransferError(f"its certificate is not trusted ({cause.verify_message})")
    passing = isinstance(cause, OSError | http.client.HTTPException)
    if isinstance(cause, http.client.InvalidURL):
        passing = False
    return TransferError(str(cause) or type(cause).__name__, passing)
