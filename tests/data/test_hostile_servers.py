"""`ensure` against servers that mean harm: bounded in time, memory and place, no traceback.

Each answer is given to one call of `ensure`, beside a sound file that must stay as it is.
"""

import gzip
import io
import pickle
import re
import socket
import tarfile
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rebar.data import sources
from rebar.errors import RebarError

from .conftest import NAME, content_of, names_in
from .raw_server import RESET, RawServer, dripped, endless, head, whole

MOST_SECONDS = 10.0
MOST_MEMORY = 3 * 2**20


@pytest.fixture
def raw(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = RawServer()
    yield server
    server.close()


def tree(root):
    return {
        path.relative_to(root): path.is_file() and path.read_bytes() for path in root.rglob("*")
    }


@pytest.fixture
def attack(one_file, raw, get, tmp_path, lines):
    """Fetch while the server gives some answers; checks what must hold whatever comes.

    Returns the error's text, or None where the right file came.
    """
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / "sound").write_bytes(b"of another run")

    def attack(*answers, retries=0, timeout=3.0, limit=10.0):
        raw.answers, urls = list(answers), {"mnist": f"{raw.url}/{NAME}.gz"}
        before = tree(tmp_path)
        error = None
        begin = time.monotonic()
        tracemalloc.start()
        try:
            (path,) = get(urls=urls, retries=retries, timeout=timeout, limit=limit)
        except RebarError as caught:
            error = str(caught)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert time.monotonic() - begin < MOST_SECONDS
        assert peak < MOST_MEMORY
        after = tree(tmp_path)
        for part in after.keys() - before.keys():
            assert str(part) in (f"mnist/{NAME}", f"mnist/{NAME}.gz", f"mnist/{NAME}.part")
        assert before.items() <= after.items()
        most = sources.DATA_SETS["mnist"].files["train_images"].max_bytes
        for path in folder.iterdir():
            assert path.stat().st_size <= most
        if error is None:
            assert content_of(path) == one_file
            assert not (folder / f"{NAME}.part").exists()
        else:
            shown = error + "".join(lines)
            assert shown.replace("\n", "").isprintable()
            assert len(error) < 2000
        return error

    return attack


OK = head()
CHUNKED = head("Transfer-Encoding: chunked")
MOVED = "302 Found"


def moved(location, *lines):
    return head(f"Location: {location}", "Content-Length: 0", *lines, status=MOVED)


BOUNDED = {
    "endless status line": (lambda: endless(b"x" * 4096, b"HTTP/1.1 200 "), "got more than"),
    "endless header line": (lambda: endless(b"x" * 4096, b"HTTP/1.1 200 OK\r\nA: "), "more than"),
    "endless headers": (lambda: endless(b"A: b\r\n" * 99, b"HTTP/1.1 200 OK\r\n"), "more than 100"),
    "endless interim answers": (
        lambda: endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 99),
        "without end around|got more than",
    ),
    "dripped head": (lambda: dripped(head("A: " + "b" * 9000)), "fewer than 1 KiB came in 0.3 s"),
    "dripped interim answers": (
        lambda: dripped(b"HTTP/1.1 100 Continue\r\n\r\n" * 99),
        "fewer than 1 KiB",
    ),
    "endless body": (lambda: endless(b"x" * 4096, OK), "too big: more than the"),
    "endless zeros after a gzip": (
        lambda: endless(bytes(4096), OK + gzip.compress(b"x")),
        "too big",
    ),
    "endless chunked body": (
        lambda: endless(b"1000\r\n" + b"x" * 4096 + b"\r\n", CHUNKED),
        "too big: more than the",
    ),
    "endless tiny chunks": (lambda: endless(b"1\r\nx\r\n" * 99, CHUNKED), "too big"),
    "endless chunk head": (lambda: endless(b"a" * 4096, CHUNKED), "got more than"),
    "endless chunk extension": (lambda: endless(b"x" * 99, CHUNKED + b"4;"), "got more than"),
    "endless trailers": (lambda: endless(b"A: b\r\n" * 99, CHUNKED + b"0\r\n"), "without end"),
    "dripped chunk head": (lambda: dripped(CHUNKED + b"4;" + b"x" * 999), "fewer than 1 KiB"),
    "dripped trailers": (
        lambda: dripped(CHUNKED + b"0\r\n" + b"A: b\r\n" * 99),
        "fewer than 1 KiB",
    ),
    "a chunk of 16 exabytes": (lambda: CHUNKED + b"ffffffffffffffff\r\nabc", "."),
    "a negative chunk": (lambda: CHUNKED + b"-5\r\n" + b"x" * 99, "."),
    "slow, but no stall": (lambda: slow(), "not done within 1 s; what came is kept"),
    "redirect with an endless body": (
        lambda: endless(b"x" * 4096, head("Location: /x", status=MOVED)),
        "HTTP 302",
    ),
    "redirect with a petabyte announced": (
        lambda: head("Location: /x", f"Content-Length: {10**15}", status=MOVED),
        "HTTP 302",
    ),
    "refusal with an endless body": (
        lambda: endless(b"x" * 4096, head(status="404 No")),
        "HTTP 404 No",
    ),
    "a petabyte announced": (lambda: head(f"Content-Length: {10**15}"), "too big: 10000000000000"),
    "gzip bomb": (lambda: whole(gzip.compress(bytes(2**24))), "decompresses to more than"),
}


def slow():
    """More than a kilobyte in each of the time-outs, for ever."""
    yield head()
    while True:
        yield b"x" * 300
        time.sleep(0.05)


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded(attack, name):
    make, reason = BOUNDED[name]
    error = attack(*(make() for _ in range(12)), timeout=0.3, limit=1.0)
    assert error is not None
    assert re.search(reason, error), error


@pytest.mark.parametrize(
    "location",
    [
        "/x", "", "//", "?", "file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "gopher://x",
        "javascript:x", "http://[::1", "http://127.0.0.1:99999/", "http://127.0.0.1:-1/",
        "http://127.0.0.1:x/", "http://a..b/", "http://\xff/", "http:///etc/hostname", "http://",
        "http://127.0.0.1:0/", "http://\x1b[2J/", "http://" + "a" * 300 + "/", "/" + "%2e%2e/" * 9,
        "/\t\x00x", "http://user:pass@127.0.0.1:1/", "http://127.0.0.1:" + "9" * 5000 + "/",
        "HTTPS://127.0.0.1:1/", "/" * 60000,
    ],
)  # fmt: skip
def test_redirects_lead_nowhere_else(attack, location):
    assert attack(moved(location)) is not None


LENGTHS = ["-1", "\xb2", "9" * 5000, "1e3", "0x10", "", "1, 2", "+5", "\x00", "0"]


@pytest.mark.parametrize("length", LENGTHS)
def test_lengths_that_are_none(attack, one_file, length):
    attack(head(f"Content-Length: {length}") + gzip.compress(one_file))


@pytest.mark.parametrize(
    "range_",
    ["bytes 100-", "bytes \xb2-5/9", f"bytes {'9' * 5000}-1/1", "bytes */5", "", "bytes 100-99/1"],
)
def test_ranges_that_lie(attack, one_file, raw, range_):
    data = gzip.compress(one_file)
    first = head(f"Content-Length: {len(data)}") + data[:100]
    other = whole(b"y" * 50, f"Content-Range: {range_}", status="206 Partial Content")
    assert attack(first, other, whole(data), retries=2) is None
    assert b"Range: bytes=100-" in raw.requests[1]


def test_content_that_changed_between_two_tries(attack, one_file, lines):
    new = gzip.compress(one_file)
    old = gzip.compress(b"another release" + one_file)
    rest = whole(new[100:], f"Content-Range: bytes 100-{len(new) - 1}/{len(new)}", status="206 P")
    first = head(f"Content-Length: {len(old)}") + old[:100]
    assert attack(first, rest, whole(new), retries=2) is None
    assert any("fetching it afresh" in line for line in lines)


@pytest.mark.parametrize("sent", [0, 1, 20, 100, 5000])
def test_reset_half_way(attack, one_file, sent):
    answer = whole(gzip.compress(one_file))
    assert attack([answer[:sent], RESET], answer, retries=1) is None


@pytest.mark.parametrize("sent", [0, 1, 20, 100, 5000])
def test_reset_again_and_again(attack, one_file, sent):
    answer = whole(gzip.compress(one_file))
    assert "could not fetch" in attack(*([answer[:sent], RESET] for _ in range(9)), retries=2)


class Armed:
    """Unpickling it would leave a mark."""

    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('unpickled').touch()",))


def archive(kind):
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as file:
            file.writestr("../../evil", "x")
    elif kind == "tar":
        with tarfile.open(fileobj=stream, mode="w:gz") as file:
            file.addfile(tarfile.TarInfo("../../evil"))
    elif kind == "npy":
        np.save(stream, np.array([Armed()], object), allow_pickle=True)
    else:
        pickle.dump(Armed(), stream)
    return stream.getvalue()


def named_gzip(content):
    stream = io.BytesIO()
    with gzip.GzipFile("../../../evil", "wb", fileobj=stream) as file:
        file.write(content)
    return stream.getvalue()


CONTENTS = {
    "nothing": lambda good: b"",
    "a page": lambda good: b"<html>please log in</html>",
    "pickle": lambda good: archive("pickle"),
    "npy with objects": lambda good: archive("npy"),
    "tar": lambda good: archive("tar"),
    "zip": lambda good: archive("zip"),
    "gzip in gzip": lambda good: gzip.compress(gzip.compress(good)),
    "half a gzip": lambda good: gzip.compress(good)[:-5000],
    "gzip without its end": lambda good: gzip.compress(good)[:-8],
    "gzip with a wrong checksum": lambda good: gzip.compress(good)[:-8] + bytes(8),
    "only the head of a gzip": lambda good: b"\x1f\x8b\x08\x08name",
    "another pixel": lambda good: gzip.compress(good[:-1] + bytes([good[-1] ^ 1])),
    "one byte more": lambda good: gzip.compress(good + b"x"),
    "many members": lambda good: gzip.compress(b"") * 600,
}


@pytest.mark.parametrize("name", CONTENTS)
def test_wrong_content(attack, one_file, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    error = attack(whole(CONTENTS[name](one_file)))
    assert "what came" in error
    assert names_in(tmp_path / "mnist") == ["sound"]


@pytest.mark.parametrize(
    "lines",
    [
        ['Content-Disposition: attachment; filename="../../evil"'],
        ["Content-Encoding: br"],
        ["Content-Encoding: gzip, gzip"],
        ["Content-Type: text/html", "Set-Cookie: a=b", "Link: </evil>; rel=preload"],
        ["A: " + "b" * 60000],
        ["Transfer-Encoding: identity"],
    ],
)
def test_headers_change_neither_name_nor_content(attack, one_file, lines):
    assert attack(whole(named_gzip(one_file), *lines)) is None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"<html></html>",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 999 ?\r\n\r\n",
        b"HTTP/1.1 -20 ?\r\n\r\n",
        head(status="404 \x1b[2J\x1b]0;owned\x07"),
        head(status="404 " + "x" * 60000),
        head(status="100 Continue"),
        head(status="101 Switching"),
        head(status="204 No Content"),
        head(status="206 Partial Content"),
        head(status="300 Multiple Choices"),
        head(status="304 Not Modified"),
        head('WWW-Authenticate: Basic realm="' + '"' * 999, status="401 No"),
        head(status="407 Proxy"),
        head("\xff\x00: \x01"),
        head("a\r\n b\r\n\tc"),
    ],
)
def test_no_answer_to_speak_of(attack, answer):
    assert "could not fetch" in attack(answer)


def test_the_port_of_someone_who_says_nothing(one_file, get):
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/{NAME}.gz"
        with pytest.raises(RebarError, match=r"no answer within 0\.2 s"):
            get(urls={"mnist": url}, retries=0, timeout=0.2)


PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 206 P\r\n", b"HTTP/1.1 302 F\r\n", b"HTTP/1.1 100 C\r\n",
        b"Location: ", b"/x", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"\r\n",
        b"Content-Range: bytes ", b"0-", b"9", b"\r\n\r\n", b"5\r\nabcde\r\n", b"0\r\n",
        b"\x1f\x8b", b"\x00\x00\x08\x03", b":", b"http://[", b"file://",
    ]
)  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=12).map(b"".join))
@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_bytes(attack, answer):
    assert attack(answer) is not None
