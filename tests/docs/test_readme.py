"""README.md: its table of hyperparameters is the program's, its Python example runs."""

import re
from pathlib import Path

import pytest

from rebar.hparams import describe
from tests.digits_run import train

TEXT = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("row", describe(), ids=lambda row: row.name)
def test_the_table_of_hparams(row):
    assert f"| `{row.name}` | `{row.default}` | {row.help}" in TEXT


def test_the_python_examples_run(tmp_path):
    example, loading = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    names = {}
    exec(example, names)
    assert names["step"] == 1
    assert names["temperature"] == pytest.approx(0.5)
    assert names["grad_variance"] == 0
    assert -300 < names["bound"] < 0
    _, _, folder = train(tmp_path, "digits", 2, model="SBNDynamicRebar")
    exec(re.sub(r'"runs/.*?"', repr(str(folder)), loading), names)
    assert names["trained"].step == 2


def test_no_placeholder_is_left():
    assert "@@" not in TEXT
