"""The manifest: written, read, refused, and compared with the flags of a new start."""

import pytest

from rebar.errors import RebarError
from rebar.runs.files import write_json
from rebar.sweep import manifest


def test_written_and_read(tmp_path):
    assert manifest.read(tmp_path)["runs"] == []
    content = {"command": "rebar-sweep", "jobs": {}, "runs": [{"folder": "run"}]}
    write_json(tmp_path / "manifest.json", content)
    assert manifest.read(tmp_path) == content


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "\x00", "[" * 9999, '{"jobs": {}}', '{"runs": []}'),
        '{"jobs": {}, "runs": [3]}',
        '{"jobs": {}, "runs": [{"folder": []}]}',
        '{"jobs": {"a": 3}, "runs": []}',
    ],
)
def test_no_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RebarError, match=r"manifest\.json.*another --sweep_dir"):
        manifest.read(tmp_path)
