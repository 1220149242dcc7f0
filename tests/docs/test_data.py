"""docs/data.md: its blocks, in one program."""

import re
import shlex
from pathlib import Path

import pytest

from rebar.cli import train

TEXT = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


@pytest.mark.usefixtures("own_registry")
def test_own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    (command,) = re.findall(r"^python (rebar_train.py .*mine.npz.*)", TEXT, re.MULTILINE)
    scope: dict = {}
    exec(programs[0], scope)
    assert train.main([*shlex.split(command), "--epochs=1"]) == 0
    exec(programs[1], scope)
    names = sorted(path.name for path in tmp_path.glob("runs/*"))
    assert [name[:17] for name in names] == ["SBNDisARM-mine-1x", "SBNDisARM-mine-1x"]
    assert scope["run"].hparams.task == "mine"
