"""Pages for authors of estimators and models: write their files and run their commands there."""

import glob
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from rebar import testing
from rebar.cli import analyze, check, train

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("add_an_estimator.md", "estimator_guide.md", "add_a_model.md")
TEXT = "".join((DOCS / page).read_text() for page in PAGES)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
FILES = {
    block.partition("\n")[0].removeprefix("# "): block
    for language, block in BLOCKS
    if language == "python"
}
COMMANDS = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
OUTPUTS = [block for language, block in BLOCKS if not language]
ONE = "unbiased: unconditional, 1 layer"


@pytest.fixture
def folder(tmp_path, monkeypatch, own_registry):
    """Folder with the files of the pages; undo their imports and registrations afterwards."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def run(command, *further):
    """Run a command of the pages in this process; return its exit status."""
    program, *arguments = shlex.split(command)
    arguments = [path for a in arguments for path in (sorted(glob.glob(a)) or [a])]
    if program == "rebar-check":
        return check.main([program, *arguments, *further])
    if program == "rebar-analyze":
        return analyze.main([program, *arguments, *further])
    if arguments[0] == "rebar_train.py":
        return train.main(arguments)
    assert (program, len(arguments)) == ("python", 1)
    runpy.run_path(arguments[0], run_name="__main__")
    return 0


def command(*words):
    """Return the only command of the pages with all these words."""
    (match,) = [c for c in COMMANDS if all(word in c for word in words)]
    return match


def test_every_block_is_a_file_a_command_or_output():
    assert len(BLOCKS) == len(FILES) + len(COMMANDS) + len(OUTPUTS)
    assert list(FILES) == [
        *("leave_one_out.py", "test_leave_one_out.py", "arm.py", "double_cv.py"),
        *("shrunk_baseline.py", "draw_noise.py", "mixture.py", "train_mixture.py"),
    ]
    assert len(COMMANDS) == 10


def test_training_and_analysis(folder, capsys):
    assert run(command("rebar_train.py", "model=MyLeaveOneOut")) == 0
    out = capsys.readouterr().out
    assert "unbiased: True" in out
    elbo, signal = re.findall(r"^Step 110: \[(\S+) +(\S+)\]$", out, re.MULTILINE)[0]
    assert -45 < float(elbo) < -15
    assert float(signal) > 0
    assert list(folder.glob("runs/MyLeaveOneOut-digits-1x12-*/checkpoint-110.npz"))
    assert run(command("rebar-analyze"), "--draws=20", "--batch_size=5") == 0
    out = capsys.readouterr().out
    assert "step 110" in out
    assert re.findall(r"^(MyLeaveOneOut|REBAR|Gumbel) ", out, re.MULTILINE) == [
        *("MyLeaveOneOut", "REBAR", "Gumbel")
    ]


def test_one_sample_is_refused(folder, capsys):
    flags = command("rebar_train.py", "model=MyLeaveOneOut").replace("n_samples=2", "n_samples=1")
    assert run(flags) == 2
    expected = "n_samples=1: must be at least 2 for MyLeaveOneOut"
    assert expected in capsys.readouterr().err


def test_tracking(folder, capsys):
    assert run(command("SBNTrackGradVariances")) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"^\('MyLeaveOneOut', -?\d+\.\d+\)$", out, re.MULTILINE)) == 2
    assert len(re.findall(r"^\('REBAR', -?\d+\.\d+\)$", out, re.MULTILINE)) == 2


def columns(line):
    """Verdict and name of a result, and its numbers without the seconds."""
    width = len(testing.HEAD) - 11
    return line[:68].split(None, 1), [
        float(n.strip("%").replace(",", "")) for n in line[68:width].split()
    ]


def test_the_printed_report_is_that_of_the_command(folder, capsys):
    head, *lines, summary = OUTPUTS[0].splitlines()
    assert head == testing.HEAD
    assert run(command("rebar-check MyLeaveOneOut"), f"--only={ONE}") == 0
    results = capsys.readouterr().out.splitlines()[1:-1]
    planned = [c.name for c in testing.plan(testing.subject("MyLeaveOneOut"))]
    documented = [line for line in lines if line != "..."]
    names = [columns(line)[0][1].strip() for line in documented]
    assert names == [name for name in planned if name in names]
    assert summary.startswith(f"MyLeaveOneOut: all {len(planned)} checks passed in ")
    for result in results:
        (line,) = [other for other in documented if columns(other)[0] == columns(result)[0]]
        assert columns(line)[1] == pytest.approx(columns(result)[1], rel=0.01)


def test_the_check_finds_the_mistake_that_the_text_names(folder, capsys):
    mistake = re.search(r"`(others = .*?)`", TEXT)[1]
    wrong, count = re.subn(r"others = .*", mistake, FILES["leave_one_out.py"])
    assert count == 1
    (folder / "leave_one_out.py").write_text(wrong)
    assert run(command("rebar-check MyLeaveOneOut"), f"--only={ONE}") == 1
    deviations = re.findall(r"the deviation is (\d+\.\d)% of", capsys.readouterr().out)
    documented = re.findall(r"`the deviation is (\d+\.\d)% of the gradient`", TEXT)
    assert float(deviations[0]) == pytest.approx(float(documented[0]), abs=0.3)


@pytest.mark.parametrize("names", ["MyARM MyIndependentARM", "MyDoubleCV"])
def test_the_guide_s_estimators(names, folder, capsys):
    for only in ("evaluations: ", "control gradients: multi", "unbiased: unconditional, 2 layers"):
        if only.startswith("control") and "ARM" in names:
            continue
        assert run(command(f"rebar-check {names} "), f"--only={only}") == 0, capsys.readouterr().out


def test_the_test_of_a_plugin(folder, monkeypatch):
    program = runpy.run_path("test_leave_one_out.py")
    asked = {}
    monkeypatch.setitem(
        program["test_leave_one_out"].__globals__,
        "check_estimator",
        lambda estimator, **options: (
            asked.update(options) or testing.check_estimator(estimator, **options | {"only": ONE})
        ),
    )
    program["test_leave_one_out"]()
    assert asked == {"min_samples": 2, "only": "1 layer"}


def test_hyperparameters_of_a_plugin(folder, capsys):
    assert run(command("model=MyShrunkBaseline")) == 0
    assert "'shrinkage': 0.9}" in capsys.readouterr().out
    report = testing.check_estimator("MyShrunkBaseline", only="1 layer, shrinkage=1.0")
    assert report.passed


def test_noise(folder, capsys):
    assert run(command("draw_noise.py")) == 0
    assert capsys.readouterr().out == OUTPUTS[-1]


def test_a_custom_model_by_name(folder, capsys):
    assert run(command("network=Mixture")) == 0
    out = capsys.readouterr().out
    assert "network: Mixture" in out
    assert re.search(r"^Step 110: \[-\d\d\.\d+ ", out, re.MULTILINE)


def test_a_custom_model(folder, capsys):
    assert run(command("train_mixture.py")) == 0
    before, after, elbo = map(float, re.findall(r"(-\d+\.\d+) nats", capsys.readouterr().out))
    assert -12 < before < -10
    assert -6.5 < after < -5.5
    assert -7.5 < elbo < -4.5
