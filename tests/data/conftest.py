"""A small catalogue of synthetic data sets, and an HTTP server on loopback."""

import dataclasses
import gzip
import http.server
import io
import struct
import threading

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
    """The catalogue entry `file`, with the checksum of `content`."""
    algorithm = file.checksum.partition(":")[0]
    return dataclasses.replace(file, checksum=f"{algorithm}:{files.digest(algorithm, content)}")


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
    monkeypatch.delenv("REBAR_DATA_SOURCE", raising=False)
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
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append(self.path)
        fault = server.faults.pop(0) if server.faults else None
        content = server.files.get(self.path)
        if content is None or isinstance(fault, int):
            self.send_error(fault or 404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault is None:
            self.wfile.write(content)
            return
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        if fault == "stall":
            server.released.wait(10)


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `faults` of the next requests: a status, "truncate" or "stall"."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.faults, self.requests = {}, [], []
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
        return ensure(name, tmp_path, **{"timeout": 0.5, "log": lines.append, **kwargs})

    return get


def content_of(path):
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())
