"""docs/add_an_estimator.md: write its files to a folder and run its commands there."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from rebar.cli import train

TEXT = (Path(__file__).parents[2] / "docs" / "add_an_estimator.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]


@pytest.fixture
def folder(tmp_path, monkeypatch, own_registry):
    """Folder with the files of the document; undo their imports and registrations afterwards."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def run(command):
    python, *arguments = shlex.split(command)
    assert python == "python"
    if arguments[0] == "rebar_train.py":
        assert train.main(arguments) == 0
    else:
        assert len(arguments) == 1
        runpy.run_path(arguments[0], run_name="__main__")


def command(*words):
    """Return the only command of the document with all these words."""
    (match,) = [c for c in COMMANDS if all(word in c for word in words)]
    return match


def deviation(text):
    return float(re.search(r"largest deviation: ([\d.]+) standard errors", text)[1])


def test_every_block_is_a_file_or_a_command():
    assert len(re.findall(r"^```\w", TEXT, re.MULTILINE)) == len(FILES) + len(COMMANDS)
    assert list(FILES) == [
        "leave_one_out.py",
        "check_leave_one_out.py",
        "mixture.py",
        "train_mixture.py",
    ]
    assert len(COMMANDS) == 4


def test_training(folder, capsys):
    run(command("model=MyLeaveOneOut"))
    out = capsys.readouterr().out
    assert "unbiased: True" in out
    elbo, signal = re.findall(r"^Step 110: \[(\S+) +(\S+)\]$", out, re.MULTILINE)[0]
    assert -45 < float(elbo) < -15
    assert float(signal) > 0
    assert list(folder.glob("runs/MyLeaveOneOut-digits-1x16-*/checkpoint-110.npz"))


def test_one_sample_is_refused(folder, capsys):
    flags = shlex.split(command("model=MyLeaveOneOut").replace("n_samples=2", "n_samples=1"))
    assert train.main(flags[1:]) == 2
    assert "error: n_samples=1: MyLeaveOneOut needs more" in capsys.readouterr().err


def test_tracking(folder, capsys):
    run(command("SBNTrackGradVariances"))
    out = capsys.readouterr().out
    assert len(re.findall(r"^\('MyLeaveOneOut', -?\d+\.\d+\)$", out, re.MULTILINE)) == 2
    assert len(re.findall(r"^\('REBAR', -?\d+\.\d+\)$", out, re.MULTILINE)) == 2


def test_the_check_passes(folder, capsys):
    run(command("check_leave_one_out.py"))
    assert 1 < deviation(capsys.readouterr().out) < 5


def test_the_check_finds_the_mistake_that_the_text_names(folder, capsys):
    mistake = re.search(r"`(others = .*?)`", TEXT)[1]
    wrong, count = re.subn(r"others = .*", mistake, FILES["leave_one_out.py"])
    assert count == 1
    (folder / "leave_one_out.py").write_text(wrong)
    with pytest.raises(SystemExit, match="biased"):
        run(command("check_leave_one_out.py"))
    assert deviation(capsys.readouterr().out) > 100


def test_a_custom_model(folder, capsys):
    run(command("train_mixture.py"))
    before, after, elbo = map(float, re.findall(r"(-\d+\.\d+) nats", capsys.readouterr().out))
    assert -12 < before < -10
    assert -6.5 < after < -5.5
    assert -7.5 < elbo < -4.5
