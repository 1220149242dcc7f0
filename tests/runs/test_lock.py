"""One process at a time in a folder, and what a user is told."""

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from rebar.errors import RebarError
from rebar.runs.lock import HOLDER, FolderLock

HOST = re.escape(socket.gethostname())


def named(process):
    """What is added to the sentence where a process holds the folder."""
    return rf"; held by process {process} on {HOST}, or one that it started, since 2\d{{3}}-\d\d-.*"


def test_one_holder_at_a_time_and_it_is_named(tmp_path):
    first = FolderLock(tmp_path / "a" / "b", "held")
    with pytest.raises(RebarError, match=rf"^taken{named(os.getpid())}$"):
        FolderLock(tmp_path / "a" / "b", "taken")
    FolderLock(tmp_path / "a", "another folder").close()
    first.close()
    first.close()
    assert os.listdir(tmp_path / "a" / "b") == []
    FolderLock(tmp_path / "a" / "b", "held").close()


def test_a_process_that_inherits_it_holds_it_too(tmp_path):
    lock = FolderLock(tmp_path, "held")
    command = [sys.executable, "-c", "input()"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[lock.fileno()])
    lock.close()
    with pytest.raises(RebarError, match="taken"):
        FolderLock(tmp_path, "taken")
    child.communicate(b"\n")
    FolderLock(tmp_path, "held").close()


HOLD = """
import sys, pathlib
from rebar.runs.lock import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1]), "held")
print("holds", flush=True)
input()
"""


def test_another_process_is_named_and_its_death_lets_go(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"holds\n"
        with pytest.raises(RebarError, match=rf"^taken{named(child.pid)}$"):
            FolderLock(tmp_path, "taken")
        child.send_signal(signal.SIGKILL)
    assert os.listdir(tmp_path) == [HOLDER]
    lock = FolderLock(tmp_path, "held")
    assert lock.left_elsewhere is None
    assert json.loads((tmp_path / HOLDER).read_text())["process"] == os.getpid()
    lock.close()
    assert os.listdir(tmp_path) == []


def test_who_did_not_let_go_on_another_machine_is_known(tmp_path):
    holder = {"process": 12, "host": "other", "since": "2026-01-02 03:04:05+00:00"}
    (tmp_path / HOLDER).write_text(json.dumps(holder))
    lock = FolderLock(tmp_path, "held")
    assert lock.left_elsewhere == (
        "held by process 12 on other, or one that it started, since 2026-01-02 03:04:05+00:00"
    )
    lock.close()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b"{}", b"[" * 100_000, b"3"])
def test_a_broken_note_of_the_holder_names_nobody(tmp_path, content):
    lock = FolderLock(tmp_path, "held")
    (tmp_path / HOLDER).write_bytes(content)
    with pytest.raises(RebarError, match=r"^taken$"):
        FolderLock(tmp_path, "taken")
    lock.close()
    (tmp_path / HOLDER).write_bytes(content)
    assert FolderLock(tmp_path, "held").left_elsewhere is None


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RebarError, match=r"cannot make the folder .*; choose another --sweep_dir"):
        FolderLock(tmp_path / "file", "held", "--sweep_dir")


def test_a_file_system_without_locks_is_not_taken_for_a_held_folder(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RebarError, match=r"^cannot lock the folder .*: No locks available; choose"):
        FolderLock(tmp_path, "taken")
