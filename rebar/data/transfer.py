"""Fetching one file from one URL: bounded in time, in size and in tries, and resumable."""

import http.client
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

_BLOCK_BYTES = 2**18
_STALL_BYTES = 1024
_MAX_DELAY_S = 30.0
_MAX_REDIRECTS = 5
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})


class Policy(NamedTuple):
    """How patient to be.

    Attributes:
      timeout: seconds to wait for a connection, and for the next kilobyte once connected.
      retries: how often to try the same URL again after a failure that may pass.
      backoff: seconds before the first such try; doubled for each further one, up to 30.
    """

    timeout: float = 30.0
    retries: int = 3
    backoff: float = 1.0


class TransferError(Exception):
    """The file did not come.

    Attributes:
      passing: whether the same URL may work at another time.
    """

    def __init__(self, reason: str, passing: bool = False):
        super().__init__(reason)
        self.passing = passing


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = _MAX_REDIRECTS
    max_repeats = 2


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https alone: the usual one would follow a redirect to ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def copy_local(path: Path, part: Path, max_bytes: int) -> None:
    """Copy a local file to `part`.

    Raises:
      TransferError: it is missing, unreadable or longer than `max_bytes` bytes.
    """
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            if size > max_bytes:
                raise TransferError(f"too big: {size} bytes, at most {max_bytes} are expected")
            with part.open("wb") as out:
                shutil.copyfileobj(stream, out, _BLOCK_BYTES)
    except FileNotFoundError:
        raise TransferError("no such file") from None
    except PermissionError as error:
        raise TransferError(str(error)) from None


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
    """
    resumed = False
    for attempt in range(policy.retries + 1):
        try:
            return _attempt(url, part, max_bytes, policy.timeout) or resumed
        except TransferError as error:
            if not error.passing or attempt == policy.retries:
                raise
            delay = min(policy.backoff * 2**attempt, _MAX_DELAY_S)
            log(f"  {error}; trying again in {delay:g} s ({attempt + 1} of {policy.retries})")
            time.sleep(delay)
    raise AssertionError("the last try returns or raises")


def _attempt(url: str, part: Path, max_bytes: int, timeout: float) -> bool:
    """One try at completing `part`; returns whether earlier bytes were kept."""
    have = part.stat().st_size if part.exists() else 0
    response, start = _open(url, have, timeout)
    with response:
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        if total is not None and total > max_bytes:
            raise TransferError(f"too big: {total} bytes, at most {max_bytes} are expected")
        try:
            with part.open("ab" if start else "wb") as out:
                received = _receive(response, out, start, total, max_bytes, timeout)
        except TransferError as error:
            if not error.passing:  # nothing can be made of what came
                part.unlink()
            raise
    if total is not None and received < total:
        raise TransferError(f"connection closed after {received} of {total} bytes", passing=True)
    return start > 0


def _open(url: str, have: int, timeout: float) -> tuple[http.client.HTTPResponse, int]:
    """Open a URL from byte `have` on; the result says from where the server really sends."""
    request = urllib.request.Request(url, headers={"User-Agent": "rebar-download"})
    request.add_header("Accept-Encoding", "identity")
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = _opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == 416:  # what lies here is no beginning of that file
            return _open(url, 0, timeout)
        reason = f"HTTP {error.code} {error.reason}".strip()
        raise TransferError(reason, error.code in _WORTH_ANOTHER_TRY) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _as_transfer_error(error, timeout) from None
    if response.status != 206:
        return response, 0
    sent = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if have and sent and int(sent.group(1)) == have:
        return response, have
    response.close()
    if not have:
        raise TransferError("the server sent a part of the file without being asked to")
    return _open(url, 0, timeout)


def _receive(response, out, start: int, total: int | None, max_bytes: int, timeout: float) -> int:
    """Write what comes to `out`; returns the file's length so far."""
    from tqdm import tqdm

    received = start
    mark, mark_time = received, time.monotonic()
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
                raise TransferError(f"too big: more than the {max_bytes} bytes expected")
            out.write(block)
            bar.update(len(block))
            if received - mark >= _STALL_BYTES:
                mark, mark_time = received, time.monotonic()
            elif time.monotonic() - mark_time > timeout:
                raise TransferError(f"fewer than 1 KiB came in {timeout:g} s", passing=True)


def _as_transfer_error(error: Exception, timeout: float) -> TransferError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return TransferError(f"no answer within {timeout:g} s", passing=True)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TransferError(f"its certificate is not trusted ({cause.verify_message})")
    passing = isinstance(cause, OSError | http.client.HTTPException)
    if isinstance(cause, http.client.InvalidURL):
        passing = False
    return TransferError(str(cause) or type(cause).__name__, passing)
