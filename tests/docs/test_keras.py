"""docs/keras.md: run its programs and compare their output with the text."""

import re
import runpy
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "keras.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
PROGRAMS = {
    block.partition("\n")[0].removeprefix("# "): block
    for language, block in BLOCKS
    if language == "python" and block.startswith("# ")
}
OUTPUTS = [block for language, block in BLOCKS if not language]

# Keras reads files through a NumPy interface that it implements in an old form.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def numbers(text):
    return [float(n) for n in re.findall(r": (-?\d+\.?\d*)$", text, re.MULTILINE)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(PROGRAMS[name])
    runpy.run_path(name, run_name="__main__")
    out = capsys.readouterr().out
    expected = OUTPUTS[list(PROGRAMS).index(name)]
    assert re.sub(r"-?\d+\.\d+", "", out) == re.sub(r"-?\d+\.\d+", "", expected)
    assert numbers(out) == pytest.approx(numbers(expected), abs=0.5)


def test_programs():
    assert list(PROGRAMS) == ["vae.py"]
    assert len(OUTPUTS) == len(PROGRAMS)
