"""One process at a time in a folder, and what a user is told."""

import subprocess
import sys

import pytest

from rebar.errors import RebarError
from rebar.training.lock import FolderLock


def test_one_holder_at_a_time(tmp_path):
    first = FolderLock(tmp_path / "a" / "b", "held")
    with pytest.raises(RebarError, match=r"^taken$"):
        FolderLock(tmp_path / "a" / "b", "taken")
    FolderLock(tmp_path / "a", "another folder").close()
    first.close()
    first.close()
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


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RebarError, match=r"cannot make the folder .*; choose another --sweep_dir"):
        FolderLock(tmp_path / "file", "held", "--sweep_dir")
