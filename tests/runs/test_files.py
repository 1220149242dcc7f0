"""Files that are whole or absent."""

import errno
import json
import math
import os

import pytest

from rebar.errors import RebarError
from rebar.runs import files
from rebar.runs.files import write_file, write_json


def test_json_is_written_whole(tmp_path):
    path = tmp_path / "hparams.json"
    write_json(path, {"n_layer": 2, "track": ["NVIL"]})
    assert json.loads(path.read_text()) == {"n_layer": 2, "track": ["NVIL"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": math.nan})
    assert json.loads(path.read_text())["n_layer"] == 2
    assert os.listdir(tmp_path) == ["hparams.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_file(path, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(RebarError, match=r"cannot write .*file: No space left on device"):
            write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]

    def interrupted(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
