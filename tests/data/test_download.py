"""`ensure` against a real HTTP server that misbehaves, and files that are not right."""

import dataclasses
import fcntl
import gzip
import os
import threading
import time

import pytest

from rebar.data import sources, transfer
from rebar.errors import RebarError

from .conftest import NAME, PATH, content_of, names_in


def test_fetches_says_from_where_and_which_check_passed(one_file, server, get, lines, tmp_path):
    (path,) = get()
    assert path == tmp_path / "mnist" / f"{NAME}.gz"
    assert content_of(path) == one_file
    assert names_in(path.parent) == [path.name]
    assert f"fetching from {server.url}{PATH}" in lines[0]
    assert "sha256 and md5 of the content match" in lines[1]


def test_a_whole_file_is_not_fetched_again(one_file, server, get, lines):
    (path,) = get()
    before = path.stat()
    assert get() == [path]
    assert len(server.requests) == 1
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert "present; sha256 and md5 of the content match" in lines[-1]


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8bjunk", b"<html>log in first</html>"])
def test_a_broken_file_is_repaired(one_file, server, get, lines, damage):
    (path,) = get()
    path.write_bytes(damage)
    assert get() == [path]
    assert content_of(path) == one_file
    assert names_in(path.parent) == [path.name]
    assert any("fetching it anew" in line for line in lines)


def test_a_broken_file_under_the_other_name_is_removed(one_file, get, tmp_path):
    broken = tmp_path / "mnist" / NAME
    broken.parent.mkdir()
    broken.write_bytes(one_file[:-1])
    (path,) = get()
    assert names_in(broken.parent) == [path.name] == [f"{NAME}.gz"]


def test_a_sound_file_of_other_content_is_kept_aside(one_file, get, tmp_path):
    own = tmp_path / "mnist" / NAME
    own.parent.mkdir()
    other = one_file[:-1] + bytes([one_file[-1] ^ 1])
    own.write_bytes(other)
    (path,) = get()
    assert content_of(path) == one_file
    assert (own.parent / f"{NAME}.other").read_bytes() == other


@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_that_lies_there_needs_no_network(small, server, get, tmp_path, zipped):
    folder = small.write(tmp_path, "binarized_mnist", zipped)
    paths = get("binarized_mnist", allow_download=False)
    assert [p.parent for p in paths] == [folder] * 3
    assert {p.suffix for p in paths} == {".gz" if zipped else ".amat"}


def test_without_permission_to_download_the_command_is_named(one_file, server, get, tmp_path):
    with pytest.raises(RebarError) as error:
        get(allow_download=False)
    assert f"{NAME}.gz is missing" in str(error.value)
    assert f"python download_data.py --datasets=mnist --data_dir={tmp_path}" in str(error.value)
    assert server.requests == []


def test_gzip_recompressed_by_a_mirror_is_accepted(one_file, server, get):
    server.files[PATH] = gzip.compress(one_file, compresslevel=1)
    (path,) = get()
    assert content_of(path) == one_file


def test_a_mirror_may_serve_plain_content_under_a_gz_name(one_file, server, get):
    server.files[PATH] = one_file
    (path,) = get()
    assert path.name == NAME
    assert path.read_bytes() == one_file


def test_a_truncated_body_is_resumed(one_file, server, get, lines):
    server.plans[PATH] = ["truncate"]
    (path,) = get()
    assert content_of(path) == one_file
    size = len(server.files[PATH])
    assert server.requests == [(PATH, None), (PATH, f"bytes={size // 2}-")]
    assert any(f"connection closed after {size // 2} of {size} bytes" in line for line in lines)


def test_an_interrupted_transfer_is_continued_by_the_next_call(one_file, server, get, tmp_path):
    server.plans[PATH] = ["truncate"]
    with pytest.raises(RebarError, match="connection closed after"):
        get(retries=0)
    half = len(server.files[PATH]) // 2
    assert (tmp_path / "mnist" / f"{NAME}.part").stat().st_size == half
    (path,) = get()
    assert server.requests[-1] == (PATH, f"bytes={half}-")
    assert content_of(path) == one_file
    assert names_in(path.parent) == [path.name]


@pytest.mark.parametrize("fault", ["ignore range", "wrong range"])
def test_a_server_that_does_not_honour_range(one_file, server, get, lines, fault):
    server.plans[PATH] = ["truncate", fault]
    (path,) = get()
    assert content_of(path) == one_file
    # It was noticed from the answer's header, not from the content.
    assert not any("afresh" in line for line in lines)


def test_a_part_file_of_something_else(one_file, server, get, tmp_path, lines):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / f"{NAME}.part").write_bytes(b"something else")
    (path,) = get(retries=0)
    assert content_of(path) == one_file
    assert server.requests == [(PATH, "bytes=14-"), (PATH, None)]
    assert any("fetching it afresh" in line for line in lines)


def test_a_part_file_longer_than_the_file(one_file, server, get, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / f"{NAME}.part").write_bytes(server.files[PATH] + b"more")
    (path,) = get(retries=0)
    assert content_of(path) == one_file


@pytest.mark.parametrize(
    ("fault", "reason"), [("stall", "no answer within"), ("drip", "fewer than 1 KiB came in")]
)
def test_a_connection_that_stalls_is_given_up_and_tried_again(
    one_file, server, get, lines, fault, reason
):
    server.plans[PATH] = [fault]
    begin = time.monotonic()
    (path,) = get()
    assert time.monotonic() - begin < 4  # the server would go on for 5 s
    assert content_of(path) == one_file
    assert any(f"{reason} 0.4 s; trying again" in line for line in lines)


def test_a_stall_without_retries_is_an_error(one_file, server, get):
    server.plans[PATH] = ["stall"]
    with pytest.raises(RebarError, match=r"no answer within 0\.2 s"):
        get(retries=0, timeout=0.2)


def test_a_body_without_length_is_accepted(one_file, server, get):
    server.plans[PATH] = ["no length"]
    assert content_of(get()[0]) == one_file


def test_busy_servers_are_tried_again_but_not_for_ever(one_file, server, get):
    server.plans[PATH] = [503, 429]
    assert content_of(get()[0]) == one_file
    get()[0].unlink()
    server.plans[PATH] = [503] * 10
    server.requests.clear()
    with pytest.raises(RebarError, match="HTTP 503"):
        get()
    assert len(server.requests) == 3


def test_waiting_times_double_up_to_a_bound(monkeypatch, tmp_path):
    waits = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)

    def fail(*args):
        raise transfer.TransferError("down", passing=True)

    monkeypatch.setattr(transfer, "_attempt", fail)
    policy = transfer.Policy(timeout=1, retries=7, backoff=1.0)
    with pytest.raises(transfer.TransferError, match="down"):
        transfer.fetch("http://x/", tmp_path / "p", 10, policy, print)
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_the_next_mirror_is_tried_and_all_failures_are_listed(
    one_file, server, get, monkeypatch, lines
):
    bases = [f"{server.url}/{name}/" for name in ("absent", "wrong", "m")]
    monkeypatch.setitem(
        sources.DATA_SETS,
        "mnist",
        dataclasses.replace(sources.DATA_SETS["mnist"], mirrors=tuple(bases)),
    )
    server.files[f"/wrong/{NAME}.gz"] = b"<html>no such bucket</html>"
    (path,) = get()
    assert content_of(path) == one_file
    path.unlink()
    del server.files[PATH]
    with pytest.raises(RebarError) as error:
        get()
    text = str(error.value)
    assert f"{bases[0]}{NAME}.gz: HTTP 404" in text
    assert f"{bases[1]}{NAME}.gz: what came does not start like an IDX file" in text
    assert f"{bases[2]}{NAME}.gz: HTTP 404" in text
    assert "--source=FOLDER_OR_URL, or download_data.py --mnist_url=URL" in text
    assert names_in(path.parent) == []


def test_nothing_listens(one_file, server, get):
    with pytest.raises(RebarError, match=r"127\.0\.0\.1:1/mnist.*refused"):
        get(source="http://127.0.0.1:1", retries=0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(None, r"too big: \d+ bytes, at most \d+"), ("no length", r"too big: more than the \d+")],
)
def test_an_oversize_body_is_refused(one_file, server, get, tmp_path, fault, reason):
    server.files[PATH] = os.urandom(2 * len(one_file) + 10000)
    server.plans[PATH] = [fault]
    with pytest.raises(RebarError, match=reason):
        get()
    assert len(server.requests) == 1
    assert names_in(tmp_path / "mnist") == []


def test_an_oversize_local_file_is_not_copied(one_file, get, tmp_path, tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    (source / NAME).write_bytes(bytes(2 * len(one_file) + 10000))
    with pytest.raises(RebarError, match=rf"{NAME}: too big: \d+ bytes, at most \d+"):
        get(source=source)
    assert names_in(tmp_path / "mnist") == []


def test_a_zip_bomb_is_refused(one_file, server, get, tmp_path):
    server.files[PATH] = gzip.compress(bytes(2**24))
    assert len(server.files[PATH]) < len(one_file)
    with pytest.raises(RebarError, match="decompresses to more than"):
        get()
    assert names_in(tmp_path / "mnist") == []


def test_redirects_are_followed_up_to_a_bound_and_only_to_http(one_file, server, get):
    server.plans[PATH] = [f"redirect {server.url}/elsewhere/evil-name"]
    server.files["/elsewhere/evil-name"] = server.files[PATH]
    (path,) = get()
    assert path.name == f"{NAME}.gz"
    path.unlink()
    server.plans[PATH] = [f"redirect {server.url}/0"]
    for step in range(20):
        server.plans[f"/{step}"] = [f"redirect {server.url}/{step + 1}"]
    server.requests.clear()
    with pytest.raises(RebarError, match="HTTP 302"):
        get(retries=0)
    assert len(server.requests) <= 6
    for target in ("file:///etc/hostname", "ftp://127.0.0.1/x"):
        server.plans[PATH] = [f"redirect {target}"]
        with pytest.raises(RebarError, match="could not fetch"):
            get(retries=0)


def test_two_processes_do_not_fetch_into_one_folder_at_once(one_file, server, get, tmp_path, lines):
    folder = tmp_path / "mnist"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    waiting = threading.Event()

    def log(line):
        lines.append(line)
        if "another process" in line:
            waiting.set()

    thread = threading.Thread(target=get, kwargs={"log": log})
    thread.start()
    assert waiting.wait(5)
    assert server.requests == []
    (folder / f"{NAME}.gz").write_bytes(server.files[PATH])
    os.close(descriptor)
    thread.join(5)
    assert not thread.is_alive()
    assert server.requests == []
