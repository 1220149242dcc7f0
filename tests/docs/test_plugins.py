"""docs/plugins.md: its files and commands, with --plugins, from records, and installed."""

import glob
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

import rebar
from rebar import plugins, registry
from rebar.cli import analyze, check, compare, draw, sweep, train
from rebar.data.sources import TASKS
from rebar.errors import RebarError

TEXT = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
FILES = {
    block.partition("\n")[0].removeprefix("# "): block
    for language, block in BLOCKS
    if language in ("python", "toml")
}
COMMANDS = [
    line
    for language, block in BLOCKS
    if language in ("sh", "")
    for line in block.splitlines()
    if not line.startswith("pip")
]
MAIN = {
    "rebar-analyze": analyze.main,
    "rebar-check": check.main,
    "rebar-compare": compare.main,
    "rebar-draw": draw.main,
    "rebar-sweep": sweep.main,
    "rebar-train": train.main,
}


def forget():
    """Undo imports and registrations of the plug-in."""
    sys.modules.pop("shapes", None)
    registry._ENTRIES.pop("DampedLOO", None)
    registry._MODELS.pop("BarsVAE", None)
    TASKS.pop("bars", None)
    plugins._installed.cache_clear()


def run(command, *further):
    """Run a command of the page in this process, which knows no plug-in; return its status."""
    forget()
    program, *arguments = shlex.split(command)
    arguments = [path for a in arguments for path in (sorted(glob.glob(a)) or [a])]
    return MAIN[program]([program, *arguments, *further])


def command(*words):
    """Return the only command of the page with all these words."""
    (match,) = [c for c in COMMANDS if all(word in c for word in words)]
    return match


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Current folder with the files and the runs of the commands with --plugins."""
    folder = tmp_path_factory.mktemp("plugin")
    for name, content in FILES.items():
        (folder / name).write_text(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", ["", *sys.path])
        for words in (["--plugins", "SBNDisARM", "--draw"], ["--plugins", "damping=0.8"]):
            assert run(command(*words), "--jit=off") == 0
        yield folder
    forget()


def test_every_block_is_used():
    assert list(FILES) == ["shapes.py", "load.py", "pyproject.toml"]
    assert len(COMMANDS) == 8


def test_records(folder):
    for path in folder.glob("runs/*/hparams.json"):
        record = json.loads(path.read_text())
        assert (record["plugins"], record["network"]) == (["shapes"], "BarsVAE")
        assert record["data"].startswith("bars: 800 train, 100 valid, 100 test images of 6x6 ")
    assert len([*folder.glob("runs/*/pictures/*.png")]) == 2


def test_a_sweep(folder, capsys):
    assert run(command("rebar-sweep")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "--plugins=shapes" in line]) == 2


def test_what_reads_a_run_needs_no_flag(folder, capsys):
    assert run(command("rebar-compare")) == 0
    assert "2 runs, up to step" in capsys.readouterr().out
    assert (folder / "comparison" / "bars-BarsVAE.png").exists()
    assert run(command("rebar-draw")) == 0
    assert run(command("rebar-analyze"), "--batch_size=2") == 0
    out = capsys.readouterr().out
    assert re.findall(r"^(DampedLOO|REBAR) ", out, re.MULTILINE) == ["DampedLOO", "REBAR"]
    forget()
    runpy.run_path("load.py")
    assert capsys.readouterr().out == "hidden 68\n"


def test_a_module_that_is_gone(folder, monkeypatch, tmp_path, capsys):
    runs = folder / "runs"
    monkeypatch.chdir(tmp_path)
    forget()
    (run_folder,) = runs.glob("DampedLOO-*")
    expected = "was trained with the plug-in shapes: No module named 'shapes'"
    with pytest.raises(RebarError, match=f"^{re.escape(str(run_folder))}: {expected}"):
        rebar.load_model(run_folder)
    assert compare.main(["c", str(runs), "--output=out"]) == 2
    assert expected in capsys.readouterr().err


@pytest.fixture
def installed(folder, monkeypatch, tmp_path):
    """The plug-in as an installed package, in another current folder."""
    monkeypatch.chdir(tmp_path)
    site = tmp_path / "site"
    (site / "shapes_for_rebar-0.1.dist-info").mkdir(parents=True)
    (site / "shapes.py").write_text(FILES["shapes.py"])
    section, name = re.search(
        r'^\[project.entry-points."(.*)"\]\n(.*)', FILES["pyproject.toml"], re.M
    ).groups()
    info = site / "shapes_for_rebar-0.1.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shapes-for-rebar\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[{section}]\n{name.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(site)
    yield site
    forget()


def test_an_installed_plug_in_is_found(installed, capsys):
    assert run("rebar-train --hparams=task=bars,n_layer=0") == 2
    assert "n_layer=0: must be at least 1" in capsys.readouterr().err
    assert run(command("--epochs=1"), "--jit=off", "--eval_freq=0") == 0
    assert "plugins: ['shapes']" in capsys.readouterr().out
    assert run(command("rebar-check")) == 0
    forget()
    assert rebar.estimator("DampedLOO", damping=0.1).damping == 0.1
    forget()
    assert rebar.load_data("bars").train.shape == (800, 36)


def test_a_known_name_imports_no_installed_plug_in(installed):
    forget()
    rebar.HParams.parse("task=digits,model=SBNDisARM")
    assert "shapes" not in sys.modules


def test_a_broken_installed_plug_in(installed):
    (installed / "shapes.py").write_text("import tensorflow\n1 / 0\n")
    forget()
    expected = (
        r"plug-in shapes of the installed package shapes-for-rebar: ZeroDivisionError: .*\(.*"
        r"shapes\.py:2\)"
    )
    with pytest.raises(RebarError, match=expected):
        rebar.HParams.parse("task=bars")
    rebar.HParams.parse("task=digits")


@pytest.mark.parametrize("name", ["../evil", "os;x", "a b", ""])
def test_records_name_modules_by_identifiers(name):
    def build():
        raise RebarError("unknown")

    with pytest.raises(RebarError, match=r"invalid name of a Python module|^unknown$"):
        plugins.with_plugins(build, [name], "run")
    for damaged in (None, 5, "os", [5], {"a": 1}):
        with pytest.raises(RebarError, match=r"^unknown$"):
            plugins.with_plugins(build, damaged, "run")
