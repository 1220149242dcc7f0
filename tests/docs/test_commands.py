"""Every command in README and docs is well formed: names, flags and values.

Training commands are parsed with their presets and hyperparameters, sweeps are expanded, and flags
of other commands are looked up. The other tests in this folder run the programs of the docs.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rebar.cli import sweep, train
from rebar.hparams import HParams
from rebar.hparams.presets import preset

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HEADS = ("python", "rebar-", "pip", "tensorboard")
PLUGIN_MODELS = ("MyLeaveOneOut", "MyShrunkBaseline", "network=Mixture")
"""Registered by a program of the page, which another test runs."""


def commands():
    """Yield (page, command) of every line of a fenced block that starts like a command."""
    for page in PAGES:
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.S | re.M):
            for line in re.sub(r"\\\n", " ", block).splitlines():
                if language in ("", "sh") and line.startswith(HEADS):
                    yield page.name, line.partition("  # ")[0].strip()


COMMANDS = list(dict.fromkeys(commands()))


def checked_flags(define, arguments):
    """Parse flags; no other arguments are allowed."""
    values = define()
    rest = values(arguments)[1:]
    assert rest == [], f"no flags: {rest}"
    return values


def check_training(arguments):
    values = checked_flags(train.define_flags, arguments)
    if any(name in " ".join(values.hparams) for name in PLUGIN_MODELS):
        return
    base = [] if values.preset is None else [preset(values.preset)]
    HParams.parse(*base, *values.hparams)


def check_help(command, flags):
    """Check that the program starts and has these flags."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    asked = subprocess.run(
        [sys.executable, *command, "--help"], capture_output=True, text=True, env=environment
    )
    assert asked.returncode == 0, asked.stderr
    for flag in flags:
        assert flag in asked.stdout, flag


def test_there_are_commands():
    assert len(COMMANDS) > 40
    assert {page for page, _ in COMMANDS} >= {"README.md", "quickstart.md", "reproduce.md"}


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_is_well_formed(page, command, tmp_path, monkeypatch):
    if page == "plugins.md":
        return  # test_plugins.py runs its commands, with the plug-in
    parts = shlex.split(command.rpartition("&& ")[2])
    flags = {re.sub(r"=.*", "", part) for part in parts if part.startswith("--")}
    if parts[:2] == ["python", "rebar_train.py"] or parts[0] == "rebar-train":
        check_training(parts[parts.index("rebar_train.py") if "python" in parts else 0 :])
    elif parts[0] == "rebar-sweep":
        monkeypatch.chdir(tmp_path)
        position = parts.index("--")
        dry = [part for part in parts[:position] if not part.startswith("--engine")]
        assert sweep.main([*dry, "--dry_run", *parts[position:]]) == 0
    elif parts[:3] == ["python", "-m", "pytest"] or parts[0] in ("pip", "tensorboard"):
        pass
    elif parts[:3] == ["python", "-m", "benchmarks.results"]:
        check_help(parts[1:3], flags)
    elif parts[0] == "python" and parts[1].startswith("benchmarks/"):
        assert (ROOT / parts[1]).exists()
        source = (ROOT / parts[1]).read_text() + (ROOT / "benchmarks" / "common.py").read_text()
        assert all(f'"{flag}"' in source for flag in flags)
    elif parts[0] == "python" and parts[1] != "-m":
        written = (ROOT / "docs" / page).read_text() if page != "README.md" else ""
        assert f"# {parts[1]}\n" in written or (ROOT / parts[1]).exists()
    else:
        name = parts[2] if parts[0] == "python" else f"rebar.cli.{parts[0].removeprefix('rebar-')}"
        check_help(["-c", f"import sys; from {name} import main; sys.exit(main())"], flags)
