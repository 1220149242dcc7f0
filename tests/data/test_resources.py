"""What this machine may lack during a download, and several downloads at once."""

import contextlib
import errno
import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rebar.data import ensure, load
from rebar.errors import RebarError

from . import client
from .conftest import NAME, PATH, content_of, names_in

ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def run(server, tmp_path):
    """Run `client`; returns its exit status and what it printed."""
    server.files[PATH] = gzip.compress(client.content(), mtime=0)

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1"}
        command = [sys.executable, "-m", "tests.data.client", f"{server.url}/m/", str(tmp_path)]
        done = subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env=environment,
            text=True,
            capture_output=True,
            timeout=100,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    return run


@pytest.mark.parametrize("locks", [[], ["no_locks"]])
def test_several_processes_fetch_one_file_at_once(run, server, tmp_path, locks):
    server.plans[PATH] = ["slow"] * 4
    assert run("copies", "4", *locks) == (0, ["whole"] * 4)
    assert names_in(tmp_path / "mnist") == [f"{NAME}.gz"]
    assert content_of(tmp_path / "mnist" / f"{NAME}.gz") == client.content()
    if not locks:
        assert len(server.requests) == 1


def test_killed_at_any_moment(run, server, tmp_path):
    server.plans[PATH] = ["slow"] * 20
    status, told = run("kills", "20")
    assert (status, told[-1]) == (0, "whole")
    left = [line.removeprefix("left: ") for line in told if line.startswith("left: ")]
    assert len(left) == 20
    assert left.count(f"{NAME}.part") >= 3
    assert set(left) <= {f"{NAME}.part", f"{NAME}.gz", "left:"}
    assert names_in(tmp_path / "mnist") == [f"{NAME}.gz"]
    assert content_of(tmp_path / "mnist" / f"{NAME}.gz") == client.content()


def test_out_of_file_descriptors(run, tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / NAME).write_bytes(b"broken")
    status, told = run("few_descriptors", "9")
    assert (status, len(told)) == (0, 9)
    refused = [line for line in told if line != "whole"]
    assert len(refused) >= 2
    for line in refused:
        assert "Too many open files" in line
    assert names_in(folder) == [f"{NAME}.gz"]


def test_a_sound_file_outlasts_a_lack_of_descriptors(run, server, tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / NAME).write_bytes(client.content())
    before = (folder / NAME).stat()
    status, told = run("few_descriptors", "4")
    assert (status, told[-1]) == (0, "whole")
    assert f"{NAME} cannot be read (Too many open files); it is left as it is" in told[0]
    assert server.requests == []
    assert (folder / NAME).stat().st_mtime_ns == before.st_mtime_ns


def test_a_limit_of_file_size(run, tmp_path):
    status, told = run("small_files", "50000")
    assert status == 1
    assert f"cannot write into the data folder {tmp_path}/mnist (File too large)" in told[0]
    assert names_in(tmp_path / "mnist") == []


@pytest.mark.parametrize("local", [False, True])
def test_no_room_is_noticed_before_anything_is_written(
    one_file, server, get, tmp_path, monkeypatch, tmp_path_factory, local
):
    own = tmp_path_factory.mktemp("from")
    (own / NAME).write_bytes(one_file)
    free = len(one_file) // 2
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, free))
    with pytest.raises(RebarError, match=r"no room: 0\.0 MiB more are needed.*--data_dir="):
        get(source=own if local else None)
    assert names_in(tmp_path / "mnist") == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device of a full disk")
@pytest.mark.parametrize("local", [False, True])
def test_a_disk_that_fills_up_on_the_way(one_file, get, tmp_path, tmp_path_factory, local):
    own = tmp_path_factory.mktemp("from")
    (own / NAME).write_bytes(one_file)
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / f"{NAME}.part").symlink_to("/dev/full")
    with pytest.raises(RebarError, match=r"\(No space left on device\); make room.*--data_dir="):
        get(source=own if local else None)
    assert names_in(folder) == []
    get()
    assert names_in(folder) == [f"{NAME}.gz"]


@contextlib.contextmanager
def tmpfs(size):
    """A small file system of its own; skips where none can be mounted."""
    folder = tempfile.mkdtemp()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    try:
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("cannot mount a file system here")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        os.rmdir(folder)


@pytest.mark.parametrize("fault", [None, "no length"])
def test_a_file_system_that_is_full(one_file, server, get, fault):
    """24 kB do not fit into 12, whether the server tells their number or not."""
    with tmpfs("12k") as root:
        server.plans[PATH] = [fault]
        with pytest.raises(RebarError, match="no room" if fault is None else "No space left"):
            ensure("mnist", root, retries=2, log=lambda line: None)
        assert list((root / "mnist").iterdir()) == []
        assert len(server.requests) == 1


def test_a_file_system_that_is_read_only(one_file, small, server):
    with tmpfs("1m") as root:
        folder = small.write(root, "fashion_mnist")
        before = names_in(folder)
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
        ensure("fashion_mnist", root, log=lambda line: None)
        assert load("fashion_grey", root).train.shape == (30, 784)
        with pytest.raises(RebarError, match=r"Read-only file system.*--data_dir="):
            ensure("mnist", root, log=lambda line: None)
        assert names_in(folder) == before


@pytest.fixture
def as_anyone(one_file, server, tmp_path, tmp_path_factory):
    """Without the superuser's rights, who may write and read everything."""
    # What is imported on first use may lie where only the superuser can read it.
    ensure("mnist", tmp_path_factory.mktemp("first"), log=lambda line: None)
    server.requests.clear()
    if os.geteuid() != 0:
        yield
        return
    for folder in (tmp_path, *tmp_path.parents):
        if folder == tmp_path or folder.name.startswith(("pytest-", "popen-")):
            folder.chmod(0o755)
    os.chown(tmp_path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        if not os.access(tmp_path, os.W_OK, effective_ids=True):
            pytest.skip("the folder for tests is not open to others")
        yield
    finally:
        os.seteuid(0)


def test_a_folder_without_the_right_to_write(as_anyone, one_file, get, tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir(mode=0o555)
    with pytest.raises(RebarError, match=r"Permission denied\); make room or give the rights"):
        get()
    folder.chmod(0o755)


@pytest.mark.parametrize("of", ["file", "folder"])
def test_a_sound_file_without_the_right_to_read_is_left_alone(
    as_anyone, one_file, server, get, tmp_path, of
):
    folder = tmp_path / "mnist"
    folder.mkdir()
    path = folder / NAME
    path.write_bytes(one_file)
    (path if of == "file" else folder).chmod(0)
    with pytest.raises(RebarError, match=rf"{NAME}(\.gz)? cannot be read \(Permission denied\)"):
        get()
    with pytest.raises(RebarError, match=r"Permission denied"):
        load("mnist", tmp_path)
    folder.chmod(0o755)
    path.chmod(0o644)
    assert path.read_bytes() == one_file
    assert server.requests == []


def test_a_name_that_no_file_system_takes(one_file, get, tmp_path):
    with pytest.raises(RebarError, match=os.strerror(errno.ENAMETOOLONG)):
        ensure("mnist", tmp_path / ("x" * 300), log=lambda line: None)
