"""docs/tutorial.ipynb: its cells, and the numbers that they printed."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOK = json.loads((Path(__file__).parents[2] / "docs" / "tutorial.ipynb").read_text())
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def source(cell):
    """Python of a cell, without notebook commands."""
    return "".join(line for line in cell["source"] if not line.startswith("%"))


def printed(cell):
    return "".join(line for o in cell["outputs"] for line in o.get("text", ()))


def test_ten_cells_with_a_figure():
    assert len(CODE) <= 10
    assert CODE[0]["source"] == ["%pip install --quiet .."]
    assert any("image/png" in o.get("data", {}) for cell in CODE for o in cell["outputs"])
    for cell in CODE:
        compile(source(cell), "tutorial.ipynb", "exec")


@pytest.mark.slow
def test_the_cells_print_what_they_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    elbos = {"now": [], "before": []}
    for cell in CODE:
        exec(source(cell), names)
        texts = {"now": capsys.readouterr().out, "before": printed(cell)}
        for when, text in texts.items():
            elbos[when] += map(float, re.findall(r"ELBO .*: (-?\d+\.\d)", text))
    assert len(elbos["now"]) == 2
    assert elbos["now"] == pytest.approx(elbos["before"], abs=0.3)
    result = names["result"]
    assert (tmp_path / "estimators.png").read_bytes().startswith(b"\x89PNG")
    for label in ("REINFORCE", "LOO", "NVIL", "DisARM, LOO", "REBAR", "RELAX"):
        assert result.estimators[label].z < 4, label
    assert result.estimators["Gumbel"].z > 6
    stated = {
        line[:13].strip(): float(re.search(r"(\d+\.?\d*) ±", line)[1])
        for cell in CODE
        for line in printed(cell).splitlines()
        if "±" in line
    }
    assert list(stated) == list(result.estimators)
    for label, values in result.estimators.items():
        assert values.variance["total"] == pytest.approx(stated[label], rel=0.2), label
