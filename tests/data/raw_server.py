"""A server on loopback that answers with any bytes, and what it can answer with."""

import contextlib
import itertools
import socket
import struct
import threading
import time


def head(*lines, status="200 OK"):
    """The head of an answer."""
    text = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *lines, ""))
    return text.encode("latin-1")


def whole(content, *lines, status="200 OK"):
    """An answer with its length."""
    return head(f"Content-Length: {len(content)}", *lines, status=status) + content


def endless(block, start=b""):
    """`start`, then the same bytes for ever."""
    return itertools.chain([start], itertools.repeat(block))


def dripped(content, pause=0.04):
    """A byte at a time."""
    for i in range(len(content)):
        yield content[i : i + 1]
        time.sleep(pause)


RESET = object()
"""In place of bytes: the connection is reset."""


class RawServer:
    """Answers each connection with the next of `answers` (the last one again and again).

    An answer is bytes, or an iterable of bytes or RESET; `requests` holds what came.
    """

    def __init__(self):
        self.answers, self.requests, self.sent = [b""], [], 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while not self._closing.is_set():
            try:
                connected, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connected,), daemon=True).start()

    def _answer(self, connected):
        with connected, contextlib.suppress(OSError):
            connected.settimeout(5)
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                received = connected.recv(4096)
                if not received:
                    return
                request += received
            self.requests.append(request)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            for piece in [answer] if isinstance(answer, bytes) else answer:
                if self._closing.is_set():
                    return
                if piece is RESET:
                    linger = struct.pack("ii", 1, 0)
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
                connected.sendall(piece)
                self.sent += len(piece)

    def close(self):
        self._closing.set()
        # Closing alone would not end a waiting accept.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)
