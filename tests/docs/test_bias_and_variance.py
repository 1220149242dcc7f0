"""docs/bias_and_variance.md: run its first command, compare its columns with the program.

The commands that train on MNIST are not run: they take minutes, and need a download.
"""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from rebar.analysis import report
from rebar.cli import analyze
from rebar.core.enumeration import MAX_STATES, MAX_TUPLES

TEXT = (Path(__file__).parents[2] / "docs" / "bias_and_variance.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    for line in block.replace("\\\n", "").splitlines()
]


def test_the_first_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert COMMANDS[0][0] == "rebar-analyze"
    assert analyze.main([*COMMANDS[0], "--draws=20"]) == 0
    assert "ReinMaxCV" in capsys.readouterr().out
    assert (tmp_path / "analysis.json").exists()


def test_columns_are_those_of_the_table():
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \|", TEXT, re.MULTILINE)
    described = [(column.replace("\\|", "|"), name) for column, name in rows]
    shown = [
        (column, "standard_error" if name == "+-" else name) for column, name in report._COLUMNS
    ]
    assert described == shown


def test_the_program(tmp_path, monkeypatch, capsys):
    """Variances of the printed table, its fourth column, are those of the text."""
    (program,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    (table,) = re.findall(r"^```text\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "measure.py").write_text(program)
    runpy.run_path("measure.py")
    shown, stated = (
        {row[0]: float(row[4]) for row in map(str.split, text.splitlines()) if "±" in row}
        for text in (capsys.readouterr().out, table)
    )
    assert len(stated) == 5
    assert shown == pytest.approx(stated, rel=0.15)
    assert (tmp_path / "measure.png").exists()


def test_limits():
    assert f"at most {MAX_STATES} " in TEXT
    assert f"at most {MAX_TUPLES} " in TEXT
