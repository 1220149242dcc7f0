"""`ensure` against an HTTP server on loopback, and with damaged files."""

import dataclasses
import errno
import gzip
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rebar.data import download, ensure, load, sources
from rebar.errors import RebarError

from .conftest import NAME, PATH, content_of, names_in


def set_mirrors(monkeypatch, *mirrors):
    changed = dataclasses.replace(sources.DATA_SETS["mnist"], mirrors=mirrors)
    monkeypatch.setitem(sources.DATA_SETS, "mnist", changed)


def test_a_download_names_its_origin_and_the_check(one_file, server, get, lines, tmp_path):
    (path,) = get()
    assert path == tmp_path / "mnist" / f"{NAME}.gz"
    assert content_of(path) == one_file
    assert names_in(path.parent) == [path.name]
    assert f"fetching from {server.url}{PATH}" in lines[0]
    assert "sha256 of the content matches" in lines[1]


def test_a_log_that_nobody_reads_is_not_a_full_disk(one_file, server, get, monkeypatch):
    def closed(line):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        get(log=closed)


def test_an_intact_file_is_not_fetched_again(one_file, server, get, lines):
    (path,) = get()
    before = path.stat()
    assert get() == [path]
    assert len(server.requests) == 1
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert "present; sha256 of the content matches" in lines[-1]


@pytest.mark.parametrize("name", [NAME, f"{NAME}.gz"])
@pytest.mark.parametrize("damage", [b"", b"\x1f\x8bjunk", b"<html>log in first</html>"])
def test_a_damaged_file_is_moved_aside_once_there_is_a_better_one(
    one_file, server, get, tmp_path, damage, name
):
    path = tmp_path / "mnist" / name
    path.parent.mkdir()
    path.write_bytes(damage)
    server.faults = [404]
    with pytest.raises(RebarError, match="HTTP 404"):
        get()
    assert names_in(path.parent) == [name]
    assert content_of(get()[0]) == one_file
    assert names_in(path.parent) == sorted([f"{NAME}.gz", f"{name}.bad"])


@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_in_the_folder_needs_no_network(small, server, get, tmp_path, zipped):
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


def test_mirrors_may_compress_anew_or_not_at_all(one_file, server, get):
    server.files[PATH] = gzip.compress(one_file, compresslevel=1)
    (path,) = get()
    assert content_of(path) == one_file
    path.unlink()
    server.files[PATH] = one_file
    (path,) = get()
    assert path.name == NAME
    assert path.read_bytes() == one_file


@pytest.mark.parametrize("fault", ["not found", "wrong checksum", "no server"])
def test_the_next_mirror_is_tried_and_all_failures_are_listed(
    one_file, server, get, monkeypatch, fault
):
    first = "http://127.0.0.1:1/" if fault == "no server" else f"{server.url}/first/"
    set_mirrors(monkeypatch, first, f"{server.url}/m/")
    if fault == "wrong checksum":
        server.files[f"/first/{NAME}.gz"] = gzip.compress(one_file[:-1])
    (path,) = get()
    assert content_of(path) == one_file
    path.unlink()
    del server.files[PATH]
    with pytest.raises(RebarError) as error:
        get()
    reason = {
        "not found": "HTTP 404",
        "wrong checksum": "is not the published file",
        "no server": "no connection",
    }
    assert f"{first}{NAME}.gz: {reason[fault]}" in str(error.value)
    assert f"{server.url}/m/{NAME}.gz: HTTP 404" in str(error.value)
    assert "--source=FOLDER_OR_URL" in str(error.value)
    assert names_in(path.parent) == []


@pytest.mark.parametrize("fault", ["truncate", "stall"])
def test_a_transfer_that_breaks_off(one_file, server, get, tmp_path, fault):
    server.faults = [fault]
    begin = time.monotonic()
    if fault == "truncate":
        assert content_of(get()[0]) == one_file  # the second attempt
    else:
        with pytest.raises(RebarError, match="no connection, or it stalled"):
            get()
        assert names_in(tmp_path / "mnist") == []
    assert time.monotonic() - begin < 5  # the server would hold the connection for 10 s


def test_truncated_without_retries(one_file, server, get, tmp_path):
    server.faults = ["truncate"]
    with pytest.raises(RebarError, match="transfer failed"):
        get(retries=0)
    assert names_in(tmp_path / "mnist") == []


def test_offline_is_one_error_within_seconds(small, get, monkeypatch):
    """The mirrors' names cannot be resolved."""
    set_mirrors(monkeypatch, "https://data.invalid/a/", "https://data.invalid/b/")
    monkeypatch.setenv("no_proxy", "*")
    begin = time.monotonic()
    with pytest.raises(RebarError, match=r"check the network.*--source=FOLDER"):
        ensure("mnist", "/tmp", log=lambda line: None)
    assert time.monotonic() - begin < 10


def test_an_interrupted_download_leaves_nothing(one_file, get, lines, tmp_path, monkeypatch):
    def interrupted(origin, path, **options):
        path.write_bytes(one_file[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        get()
    assert names_in(tmp_path / "mnist") == []
    monkeypatch.undo()


@pytest.mark.parametrize("where", ["data_dir is a file", "name too long"])
def test_a_data_folder_that_cannot_be_written(one_file, tmp_path, where):
    (tmp_path / "file").write_text("x")
    folder = tmp_path / {"data_dir is a file": "file", "name too long": "x" * 300}[where]
    with pytest.raises(RebarError, match=r"cannot write into the data folder .*--data_dir="):
        ensure("mnist", folder, log=lambda line: None)


def test_an_unreadable_file_is_left_alone(one_file, server, get, tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / NAME).write_bytes(one_file)

    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    for call in (get, lambda: load("mnist", tmp_path)):
        with pytest.raises(RebarError, match=r"cannot be read \(Permission denied\)"):
            call()
    assert names_in(tmp_path / "mnist") == [NAME]
    assert server.requests == []


def test_pooch_is_imported_for_downloads_only():
    code = "import sys, rebar, rebar.data; assert not {'pooch', 'requests'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
