"""The manifest: written, read, refused, and compared with the flags of a new start."""

import pytest

from rebar.errors import RebarError
from rebar.runs.files import write_json
from rebar.sweep import manifest


def test_written_and_read(tmp_path):
    assert manifest.read(tmp_path) is None
    content = {"format": 1, "settings": {"eval_freq": 5}, "jobs": {}, "runs": [{"folder": "run"}]}
    write_json(tmp_path / "manifest.json", content)
    assert manifest.read(tmp_path) == content


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"format": 2}', "\x00", '{"format": 1}', "[" * 9999),
        '{"format": 1, "settings": {}, "jobs": {}, "runs": [3]}',
        '{"format": 1, "settings": {}, "jobs": {}, "runs": [{"folder": []}]}',
        '{"format": 1, "settings": {}, "jobs": {"a": 3}, "runs": []}',
        '{"format": 1, "settings": [], "jobs": {}, "runs": []}',
    ],
)
def test_no_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RebarError, match=r"manifest\.json.*another --sweep_dir"):
        manifest.read(tmp_path)


def test_other_settings(tmp_path):
    old = {"eval_freq": 5, "jit": "off"}
    manifest.check_settings(old, {"eval_freq": 1}, tmp_path)  # Nothing was started.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").touch()
    manifest.check_settings(old, {"jit": "off", "eval_freq": 5}, tmp_path)
    message = "started with --eval_freq=5 --jit=off, not --eval_freq=1"
    with pytest.raises(RebarError, match=message):
        manifest.check_settings(old, {"eval_freq": 1}, tmp_path)
