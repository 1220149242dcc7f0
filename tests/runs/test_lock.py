"""One process at a time in a folder, and the error for the second."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from rebar.errors import RebarError
from rebar.hparams import HParams, run_folder
from rebar.runs.lock import FolderLock, check_run, hold_run


def test_one_holder_at_a_time(tmp_path):
    first = FolderLock(tmp_path / "a" / "b", "held")
    with pytest.raises(RebarError, match=r"^taken$"):
        FolderLock(tmp_path / "a" / "b", "taken")
    FolderLock(tmp_path / "a", "another folder").close()
    first.close()
    first.close()
    FolderLock(tmp_path / "a" / "b", "held").close()


HOLD = """
import sys, pathlib
from rebar.runs.lock import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1]), "held")
print("holds", flush=True)
input()
"""


def test_the_death_of_another_process_releases_the_folder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"holds\n"
        with pytest.raises(RebarError, match=r"^taken$"):
            FolderLock(tmp_path, "taken")
        child.send_signal(signal.SIGKILL)
    lock = FolderLock(tmp_path, "held")
    with pytest.raises(RebarError, match=r"^taken$"):
        FolderLock(tmp_path, "taken")
    lock.close()


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RebarError, match="cannot create or lock"):
        FolderLock(tmp_path / "file", "held")


def test_a_file_system_without_locks_is_not_taken_for_a_held_folder(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RebarError, match=r"^cannot create or lock .*: No locks available; choose"):
        FolderLock(tmp_path, "taken")


def test_check_run_refuses_what_hold_run_would(tmp_path):
    folder = tmp_path / "a" / "b"
    check_run(folder)
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
def test_the_train_command_refuses_a_folder_before_it_imports_tensorflow(tmp_path, fault):
    hparams = HParams.parse("model=SBNNVIL,task=digits")
    folder = run_folder(tmp_path / "runs", hparams, 0)
    if fault == "file":
        (tmp_path / "runs").write_text("mine")
    else:
        lock = hold_run(folder)
    flags = ["--hparams=model=SBNNVIL,task=digits", f"--working_dir={tmp_path / 'runs'}"]
    command = [sys.executable, "-c", TRAIN, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    message = {"file": "cannot create or lock", "locked": f"another process trains in {folder}"}
    assert message[fault] in done.stderr
    if fault == "locked":
        lock.close()
