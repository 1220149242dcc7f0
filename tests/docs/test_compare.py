"""docs/compare.md: run its commands for one epoch, compare its tables with the program."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from rebar.cli import compare, train

TEXT = (Path(__file__).parents[2] / "docs" / "compare.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
SHORTER = ["--epochs=1", "--eval_freq=1", "--variance_freq=1", "--variance_draws=4", "--jit=off"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder in which all its commands were run."""
    path = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for command in COMMANDS:
            if command[0] == "python":
                assert command[1] == "rebar_train.py"
                few = ["--eval_samples=2", "--hparams=n_hidden=3"]
                assert train.main([*command[1:], *SHORTER, *few]) == 0
            else:
                assert command[0] == "rebar-compare"
                assert compare.main(command) == 0
    return path


def test_every_block_is_of_commands():
    assert len(COMMANDS) == 6
    assert set(re.findall(r"^```(\w+)", TEXT, re.MULTILINE)) == {"sh", "python"}


def test_the_files_that_it_names_are_written(folder):
    written = {path.name for path in (folder / "comparison").iterdir()}
    assert written == {"digits-1x3.png", "digits-1x3.pdf", "compare.md", "compare.csv"}


def described(heading):
    """Return the names in the first column of the table after some words."""
    rows = re.findall(
        r"^\| (`.*?) \|",
        TEXT.partition(heading)[2].partition("\n\n|")[2].partition("\n\n")[0],
        re.MULTILINE,
    )
    return {name for row in rows for name in re.findall(r"`(.*?)`", row)}


def test_every_field_of_a_run_is_described(folder):
    for path in (folder / "runs").glob("*/hparams.json"):
        assert set(json.loads(path.read_text())) <= described("`hparams.json`:")
    for path in (folder / "runs").glob("*/metrics.jsonl"):
        for line in path.read_text().splitlines():
            assert set(json.loads(line)) <= described("`metrics.jsonl`, one JSON object")


def test_every_column_is_described(folder):
    with open(folder / "comparison" / "compare.csv") as file:
        columns = next(csv.reader(file))
    missing = {n for n in columns if f"`{n.removesuffix('_se')}`" not in TEXT}
    assert not missing


def test_every_flag_is_described():
    flags = compare.define_flags()
    defined = {f"--{name}" for name in flags if name not in ("help", "h")}
    assert defined == described("It does not import TensorFlow")


def test_the_program(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    exec(re.search(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)[1], {})
    assert re.search(r"^SBNDisARM +55 +-\d+\.\d+ +\d+\.\d+$", capsys.readouterr().out, re.M)


def test_its_figures_are_there():
    names = re.findall(r"\]\((figures/.*?)\)", TEXT)
    assert len(names) == 2
    assert all((Path(__file__).parents[2] / "docs" / name).exists() for name in names)
