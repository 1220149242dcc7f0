"""docs/straight_through.md: run its programs, compare its numbers and table with the code."""

import inspect
import re
import runpy
from pathlib import Path

import pytest

from rebar.functional import methods, scores
from rebar.functional.straight_through import LAYERS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "straight_through.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))


def output(name, folder, capsys):
    """Run a program of the document and return its output."""
    path = folder / name
    path.write_text(FILES[name])
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out


def test_every_block_is_a_file_or_its_command():
    assert list(FILES) == ["digits.py", "bias.py"]
    assert len(re.findall(r"^```\w", TEXT, re.MULTILINE)) == 2 * len(FILES)
    for name in FILES:
        assert f"```sh\npython {name}\n```" in TEXT


def test_digits(tmp_path, capsys):
    printed = output("digits.py", tmp_path, capsys)
    first, last = (float(n) for n in re.findall(r": (\d+\.\d)", printed))
    stated = re.search(r"goes from (\d+) nats in the first epoch to (\d+) in the last", TEXT)
    for measured, number in zip((first, last), stated.groups(), strict=True):
        assert abs(measured - float(number)) < 1.5


def test_bias(tmp_path, capsys):
    """Compare to one in the last place, as processors round differently."""
    pattern = r"^(\w+) +bias: (\d+\.\d+), variance: (\d+\.\d+)$"
    stated, printed = (
        re.findall(pattern, text, re.MULTILINE)
        for text in (TEXT, output("bias.py", tmp_path, capsys))
    )
    assert [row[0] for row in stated] == [row[0] for row in printed]
    assert len(printed) == 7
    for ours, theirs in zip(printed, stated, strict=True):
        numbers = [[float(n) for n in row[1:]] for row in (ours, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.011)


@pytest.mark.parametrize("name", LAYERS)
def test_the_table(name):
    (row,) = re.findall(rf"^\| `{name}` \|(.*)\|$", TEXT, re.MULTILINE)
    options = set(re.findall(r"`(\w+)`", row.split("|")[2]))
    parameters = set(inspect.signature(LAYERS[name]).parameters)
    assert options == parameters - {"logits", "noise", "seed", "step"}


def test_references():
    for name in methods.of("categorical"):
        assert f"`{name}`" in TEXT
    assert f"at most {scores.MAX_CODES}" in TEXT
    assert "@@" not in TEXT
