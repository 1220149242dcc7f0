"""docs/keras.md and docs/vq.md: run their programs and compare the output with the text."""

import difflib
import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = {
    page: re.findall(r"^```(\w*)\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    for page in ("keras.md", "vq.md")
}
PROGRAMS = {"keras.md": "vae.py", "vq.md": "codes.py"}
DECIMAL = r"-?\d+\.\d+"

# Keras reads files through a NumPy interface that it implements in an old form.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize("page", BLOCKS)
def test_program(page, tmp_path, monkeypatch, capsys):
    name = PROGRAMS[page]
    (program,) = [text for _, text in BLOCKS[page] if text.startswith(f"# {name}\n")]
    (expected,) = [text for language, text in BLOCKS[page] if not language]
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(program)
    runpy.run_path(name, run_name="__main__")
    out = capsys.readouterr().out
    assert re.sub(DECIMAL, "", out) == re.sub(DECIMAL, "", expected)
    numbers, stated = (list(map(float, re.findall(DECIMAL, text))) for text in (out, expected))
    assert numbers == pytest.approx(stated, abs=1.0)


def test_the_lines_beyond_a_plain_model():
    """The guide shows the benchmark's class and counts its new lines."""
    benchmark = (DOCS.parent / "benchmarks" / "keras_model.py").read_text()
    (shown,) = [text for _, text in BLOCKS["keras.md"] if text.startswith("class VAE")]
    assert shown in benchmark
    plain = re.search(r"^class PlainVAE.*?(?=^class VAE)", benchmark, re.DOTALL | re.MULTILINE)[0]
    compared = difflib.ndiff(plain.strip().splitlines(), shown.strip().splitlines())
    assert sum(line.startswith("+ ") for line in compared) == 4 <= 15
    assert "four of its lines are new" in (DOCS / "keras.md").read_text()
