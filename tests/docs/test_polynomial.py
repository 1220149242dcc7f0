"""The benchmark of polynomial programming: its table, figure and text."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "straight_through.md").read_text().partition("## Which ones reach")[2]


@pytest.fixture
def polynomial(monkeypatch):
    """Import the script of the figure; undo its imports afterwards."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import polynomial

    yield polynomial
    for name in ("polynomial", "common"):
        sys.modules.pop(name)


def test_the_command(polynomial, tmp_path, capsys):
    figure = tmp_path / "polynomial.png"
    arguments = ["--estimators=IndeCateR,ReDGE", "--steps=3", "--samples=4", f"--figure={figure}"]
    polynomial.main(arguments)
    rows = re.findall(r"^\| (\w+) \| (\d+) \|", capsys.readouterr().out, re.MULTILINE)
    assert rows == [("IndeCateR", "129"), ("ReDGE", "4")]
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_where_estimators_go(polynomial, monkeypatch):
    """Straight-through to the zero of its mean, ReinMax to the optimum; p = 2 alone."""
    monkeypatch.setattr(polynomial, "EXPONENTS", (2.0,))
    curves = {label: polynomial.train(label, 60, 64) for label in ("ST", "ReinMax")}
    assert curves["ST"][0, 0] == curves["ReinMax"][0, 0] == 0.5
    assert abs(np.mean(curves["ST"][-10:]) - 0.45) < 0.02
    assert curves["ReinMax"][-1, 0] < 0.1


def test_the_table_of_the_text(polynomial):
    rows = re.findall(r"^\| ([\w-]+) \| (\d+) \|.* \| ([\w., ]+) \|$", SECTION, re.MULTILINE)
    assert [label for label, *_ in rows] == list(polynomial.OPTIONS)
    for label, stated, _ in rows:
        assert float(stated) == polynomial.evaluations(label, 64)
    reach = {label for label, _, optimum in rows if optimum == "yes"}
    assert reach == {"LOO", "IndeCateR", "ReinMax", "ReinDGE"}
