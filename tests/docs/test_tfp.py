"""docs/tfp.md: run its programs and compare their numbers with the text."""

import re
import runpy
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "tfp.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))


def numbers(text):
    return [float(n) for n in re.findall(r"-?\d+\.?\d*", text)]


def program(section, folder, capsys):
    """Text before the program of a section, and what it prints: label -> numbers."""
    prose, block = re.search(
        r"(.*?)^```python\n(# \w+\.py\n.*?)^```", SECTIONS[section], re.S | re.M
    ).groups()
    path = folder / "program.py"
    path.write_text(block)
    runpy.run_path(str(path), run_name="__main__")
    lines = re.findall(r"^([\w ]+): (.*)$", capsys.readouterr().out, re.MULTILINE)
    return " ".join(prose.split()), [(label, numbers(rest)) for label, rest in lines]


@pytest.mark.filterwarnings("ignore:Reparameterization gradients requested:UserWarning")
def test_bernoulli(tmp_path, capsys):
    prose, printed = program("A Bernoulli surrogate posterior", tmp_path, capsys)
    stated = re.search(r"ends at logits (.*), and elsewhere .* finds (.*)\.$", prose).groups()
    assert [label for label, _ in printed] == ["TFP", "DisARM"]
    for text, (_, values) in zip(stated, printed, strict=True):
        assert numbers(text) == pytest.approx(values, abs=0.02)


def test_mixture(tmp_path, capsys):
    prose, printed = program("A mixture with discrete assignments", tmp_path, capsys)
    pattern = r"falls from (.*) to (.*) nats;.*means are (.*), and .* assignments is (.*), as"
    stated = [numbers(text) for text in re.search(pattern, prose).groups()]
    assert stated == [pytest.approx(values, abs=0.1) for _, values in printed]


def test_variance(tmp_path, capsys):
    _, printed = program("Variance of the estimators", tmp_path, capsys)
    rows = re.findall(
        r"^\| (\w+).* \| ?([\d.]*) \| ?([\d.]*) \|$", SECTIONS["Variance of the estimators"], re.M
    )
    stated = [
        (label.partition("'")[0], float(row[column]))
        for column in (0, 1)
        for label, *row in rows
        if row[column]
    ]
    assert [label for label, _ in printed] == [label for label, _ in stated]
    for (_, (value,)), (_, expected) in zip(printed, stated, strict=True):
        assert value == pytest.approx(expected, rel=0.3)
