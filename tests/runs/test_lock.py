"""One process at a time in a folder, and the error for the second."""

import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from rebar.errors import RebarError
from rebar.hparams import HParams, run_folder
from rebar.runs.lock import HOLDER, FolderLock, check_run, hold_run

HOST = re.escape(socket.gethostname())


def named(process):
    """What is appended to the error if a process holds the folder."""
    return rf"; held by process {process} on {HOST} since 2\d{{3}}-\d\d-.*"


def test_one_holder_at_a_time_and_it_is_named(tmp_path):
    first = FolderLock(tmp_path / "a" / "b", "held")
    with pytest.raises(RebarError, match=rf"^taken{named(os.getpid())}$"):
        FolderLock(tmp_path / "a" / "b", "taken")
    FolderLock(tmp_path / "a", "another folder").close()
    first.close()
    first.close()
    assert HOLDER not in os.listdir(tmp_path / "a" / "b")
    FolderLock(tmp_path / "a" / "b", "held").close()


HOLD = """
import sys, pathlib
from rebar.runs.lock import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1]), "held")
print("holds", flush=True)
input()
"""


def test_another_process_is_named_and_its_death_releases_the_folder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"holds\n"
        with pytest.raises(RebarError, match=rf"^taken{named(child.pid)}$"):
            FolderLock(tmp_path, "taken")
        child.send_signal(signal.SIGKILL)
    lock = FolderLock(tmp_path, "held")
    with pytest.raises(RebarError, match=rf"^taken{named(os.getpid())}$"):
        FolderLock(tmp_path, "taken")
    lock.close()


@pytest.mark.parametrize("content", [b"", b"\xff\x1b[2J", b"\0" * 100_000])
def test_a_damaged_note_of_the_holder_names_nobody(tmp_path, content):
    lock = FolderLock(tmp_path, "held")
    (tmp_path / HOLDER).write_bytes(content)
    with pytest.raises(RebarError, match=r"^taken$"):
        FolderLock(tmp_path, "taken")
    lock.close()


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RebarError, match=r"cannot create .*; choose another --sweep_dir"):
        FolderLock(tmp_path / "file", "held", "--sweep_dir")


def test_a_file_system_without_locks_is_not_taken_for_a_held_folder(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RebarError, match=r"^cannot create or lock .*: No locks available; choose"):
        FolderLock(tmp_path, "taken")


def test_check_run_refuses_what_hold_run_would_and_creates_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "b"
    check_run(folder)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RebarError, match="no permission to write in"):
        check_run(folder)
    monkeypatch.undo()
    lock = hold_run(folder)
    with pytest.raises(RebarError, match="another process trains in"):
        check_run(folder)
    lock.close()
    check_run(folder)
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "b"):
        with pytest.raises(RebarError, match="cannot create or lock"):
            check_run(path)


TRAIN = """
import sys
from rebar.cli import train
status = train.main(sys.argv)
assert status == 2, status
loaded = {"tensorflow", "keras"} & set(sys.modules)
assert not loaded, f"{loaded} were imported before the folder was refused"
"""


@pytest.mark.parametrize("fault", ["file", "locked"])
def test_the_train_command_refuses_a_folder_before_it_imports_tensorflow_or_reads_data(
    tmp_path, fault
):
    hparams = HParams.parse("model=SBNNVIL,task=sbn")
    folder = run_folder(tmp_path / "runs", hparams, 0)
    if fault == "file":
        (tmp_path / "runs").write_text("mine")
    else:
        lock = hold_run(folder)
    # The data are missing, too: their error would come first if they were read first.
    flags = ["--hparams=model=SBNNVIL,task=sbn", f"--working_dir={tmp_path / 'runs'}"]
    command = [sys.executable, "-c", TRAIN, *flags, f"--data_dir={tmp_path}", "--download=no"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    message = {"file": "cannot create or lock", "locked": f"another process trains in {folder}"}
    assert message[fault] in done.stderr
    if fault == "locked":
        lock.close()
