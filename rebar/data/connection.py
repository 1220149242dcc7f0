"""HTTP connections that no server can hold for ever, or fill the memory through.

http.client waits its time-out for every piece that comes, however small, and takes some things
without any bound: interim answers, the body of a redirect, trailers. Here every byte that a server
sends, headers included, passes a gate that counts bytes and looks at the clock.
"""

import functools
import http.client
import io
import socket
import time
import urllib.request

_STALL_BYTES = 1024
_MAX_HEAD_BYTES = 2**18
_MAX_REDIRECTS = 5
_MAX_REASON = 200


class TransferError(Exception):
    """The file did not come.

    Attributes:
      passing: whether the same URL may work at another time.
      spoiled: whether what came is of no use, and no part of it worth going on from.
    """

    def __init__(self, reason: str, passing: bool = False, spoiled: bool = False):
        # Servers have a hand in the text: what could steer a terminal is left out.
        shown = "".join(c if c.isprintable() else "?" for c in reason[: _MAX_REASON + 1])
        super().__init__(shown if len(shown) <= _MAX_REASON else f"{shown[:_MAX_REASON]}...")
        self.passing = passing
        self.spoiled = spoiled


class Gate:
    """What may still come, and until when; one for each try.

    It starts with what headers may take; `allow` opens it further.
    """

    def __init__(self, timeout: float, deadline: float, too_late: str):
        """Args:
        timeout: seconds to wait for the next byte, and for the next kilobyte.
        deadline: of everything, on the clock of time.monotonic.
        too_late: what to say after that.
        """
        self.timeout = timeout
        self._deadline = deadline
        self._too_late = too_late
        self._left = _MAX_HEAD_BYTES
        self._since_mark = 0
        self._mark = time.monotonic()

    def allow(self, count: int) -> None:
        """Let so many bytes more come."""
        self._left += count

    def wait(self) -> float:
        """Seconds for which the next byte may be waited for. Raises TransferError if none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TransferError(self._too_late)
        return min(self.timeout, left)

    def count(self, received: int) -> None:
        """Take note of bytes that came. Raises TransferError where they are too many or too few."""
        self._left -= received
        if self._left < 0:
            raise TransferError(
                "too big: the server sends without end around the file", spoiled=True
            )
        self._since_mark += received
        now = time.monotonic()
        if self._since_mark >= _STALL_BYTES:
            self._since_mark, self._mark = 0, now
        elif received and now - self._mark > self.timeout:
            raise TransferError(f"fewer than 1 KiB came in {self.timeout:g} s", passing=True)


class _Gated(io.RawIOBase):
    """The bytes of a socket, through a gate."""

    def __init__(self, raw: socket.SocketIO, connected: socket.socket, gate: Gate):
        self._raw, self._socket, self._gate = raw, connected, gate

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int | None:
        wait = self._gate.wait()
        self._socket.settimeout(wait)
        try:
            received = self._raw.readinto(buffer)
        except TimeoutError:
            self._gate.wait()
            raise
        self._gate.count(received or 0)
        return received

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, connected, *args, gate: Gate, **kwargs):
        super().__init__(connected, *args, **kwargs)
        self.fp = io.BufferedReader(_Gated(self.fp.detach(), connected, gate))


def _connection(kind, gate: Gate, host: str, **kwargs) -> http.client.HTTPConnection:
    connection = kind(host, **kwargs)
    connection.response_class = functools.partial(_Response, gate=gate)
    return connection


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def __init__(self, gate: Gate):
        super().__init__()
        self._gate = gate

    def http_open(self, request):
        kind = functools.partial(_connection, http.client.HTTPConnection, self._gate)
        return self.do_open(kind, request)

    def https_open(self, request):
        kind = functools.partial(_connection, http.client.HTTPSConnection, self._gate)
        return self.do_open(kind, request)


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = _MAX_REDIRECTS
    max_repeats = 2

    def http_error_302(self, request, response, code, reason, headers):
        response.close()  # the library would read all of its body
        return super().http_error_302(request, response, code, reason, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def opener(gate: Gate) -> urllib.request.OpenerDirector:
    """An opener for http and https alone: the usual one would follow a redirect to ftp."""
    result = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Handler(gate),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        result.add_handler(handler)
    return result
