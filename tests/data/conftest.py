"""A small catalogue of synthetic data sets, and a real HTTP server on loopback that misbehaves."""

import dataclasses
import gzip
import http.server
import io
import struct
import threading
import time

import numpy as np
import pytest
import scipy.io

from rebar.data import ensure, files, sources

NAME = "train-images-idx3-ubyte"
PATH = f"/m/{NAME}.gz"


def amat_text(values):
    return "".join(" ".join(map(str, row)) + "\n" for row in values).encode()


def idx_bytes(values):
    header = struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def mat_bytes(compress=True, **variables):
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables, do_compression=compress)
    return stream.getvalue()


def with_content(file, content):
    """The catalogue entry `file`, with the digests of `content`."""
    digests = tuple((name, files.digest(name, content)) for name, _ in file.digests)
    return dataclasses.replace(file, digests=digests)


@dataclasses.dataclass
class Small:
    """A catalogue cut down to a few images: what each file should hold, and its arrays."""

    contents: dict
    arrays: dict

    def write(self, root, data_set, zipped=False, skip=()):
        """Lay a data set out below `root` as DATA SET/FILE."""
        folder = root / data_set
        folder.mkdir(parents=True, exist_ok=True)
        for (owner, name), content in self.contents.items():
            if owner == data_set and name not in skip:
                data = gzip.compress(content) if zipped else content
                (folder / (name + ".gz" * zipped)).write_bytes(data)
        return folder


_ROWS = {"train": 20, "valid": 6, "test": 7}
_N_VALID = {"omniglot": 5, "fashion_mnist": 6}


def _small_file(file, role, rng):
    """A catalogue entry of fewer images, its arrays and its content."""
    part = role.partition("_")[0]
    if file.layout == "amat":
        array = rng.integers(0, 2, (_ROWS[part], file.shape[1]))
        content, shape = amat_text(array), array.shape
    elif file.layout == "idx":
        array = rng.integers(0, 256 if len(file.shape) == 3 else 10, (30, *file.shape[1:]))
        content, shape = idx_bytes(array), array.shape
    else:
        array = tuple(rng.integers(0, 5, (784, count)) / 4 for count in (18, 9))
        content = mat_bytes(data=array[0], testdata=array[1], target=np.eye(3))
        shape = tuple(a.shape for a in array)
    small = with_content(dataclasses.replace(file, shape=shape), content)
    return small, array, content


@pytest.fixture
def small(monkeypatch):
    rng = np.random.default_rng(0)
    result = Small({}, {})
    for name, data_set in list(sources.DATA_SETS.items()):
        entries = {}
        for role, file in data_set.files.items():
            entries[role], array, content = _small_file(file, role, rng)
            result.contents[name, file.name] = content
            result.arrays[name, role] = array
        n_valid = _N_VALID.get(name, data_set.n_valid)
        changed = dataclasses.replace(data_set, files=entries, mirrors=(), n_valid=n_valid)
        monkeypatch.setitem(sources.DATA_SETS, name, changed)
    return result


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        plan = server.plans.get(self.path)
        fault = plan.pop(0) if plan else None
        content = server.files.get(self.path)
        if isinstance(fault, int):
            return self._status(fault)
        if fault and fault.startswith("redirect "):
            return self._status(302, fault.removeprefix("redirect "))
        if content is None:
            return self._status(404)
        start = self._start(fault)
        if start >= len(content):
            return self._status(416)
        body = content if fault == "wrong range" else content[start:]
        self.send_response(206 if start else 200)
        if start:
            shown = 0 if fault == "wrong range" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        if fault == "no length":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return self._send(body, fault)

    def _start(self, fault):
        asked = self.headers.get("Range")
        return int(asked[len("bytes=") : -1]) if asked and fault != "ignore range" else 0

    def _send(self, body, fault):
        half = len(body) // 2
        self.close_connection = True
        if fault == "truncate":
            self.wfile.write(body[:half])
        elif fault == "stall":
            self.wfile.write(body[:half])
            self.wfile.flush()
            self.server.released.wait(5)
        elif fault == "drip":
            end = time.monotonic() + 5
            while time.monotonic() < end and not self.server.released.wait(0.05):
                self.wfile.write(b"x")
                self.wfile.flush()
        elif fault == "slow":
            for start in range(0, len(body), len(body) // 20 + 1):
                self.wfile.write(body[start : start + len(body) // 20 + 1])
                self.server.released.wait(0.01)
        else:
            self.wfile.write(body)

    def _status(self, code, location=None):
        self.send_response(code)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `plans` lists, by path, the faults of the next requests, in order."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.plans, self.requests = {}, {}, []
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def one_file(small, server, monkeypatch):
    """`mnist` reduced to its training images, served gzipped below /m/."""
    whole = sources.DATA_SETS["mnist"]
    files = {"train_images": whole.files["train_images"]}
    one = dataclasses.replace(whole, files=files, mirrors=(server.url + "/m/",))
    monkeypatch.setitem(sources.DATA_SETS, "mnist", one)
    content = small.contents["mnist", NAME]
    server.files[PATH] = gzip.compress(content, mtime=0)
    return content


@pytest.fixture
def lines():
    return []


@pytest.fixture
def get(tmp_path, lines):
    def get(name="mnist", **kwargs):
        options = {"timeout": 0.4, "retries": 2, "backoff": 0.01, "log": lines.append}
        return ensure(name, tmp_path, **{**options, **kwargs})

    return get


def content_of(path):
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())
