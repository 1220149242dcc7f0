"""Every command under the streams, encodings and folders that a shell or daemon can hand it."""

import os
import subprocess
import sys

import pytest

from rebar.cli.quiet import quiet_start

FOLDER = "résumé 100%\n\udcff"
"""Not ASCII, not UTF-8, with a space, a percent sign and a line break."""

COMMANDS = ("train", "download", "analyze", "draw", "compare", "sweep")

MISTAKES = {
    "train": ["--preset={}"],
    "download": ["--datasets={}"],
    "analyze": ["{}"],
    "draw": ["{}"],
    "compare": ["{}", "--output=out"],
    "sweep": ["{}"],
}
"""Arguments that are an error that names the folder."""


def start(command, arguments, redirection="", **environment):
    """Run a command by a shell, with redirections."""
    line = f'"$@" {redirection}'
    code = f"import sys; from rebar.cli.{command} import main; sys.exit(main())"
    words = ["bash", "-c", line, "bash", sys.executable, "-c", code, *arguments]
    return subprocess.run(
        [os.fsencode(word) for word in words],
        capture_output=True,
        env={**os.environ, **environment},
        timeout=120,
    )


PIPE = '> >(exec true); exit "$?"'
"""A reader that is gone before the command writes."""

STATES = [
    (">&-", 2, b"error: standard output: it is closed"),
    (">/dev/full", 2, b"error: cannot write to standard output: No space left on device"),
    ("2>&- <&-", 0, b""),
]


@pytest.mark.parametrize(
    ("command", "redirection", "status", "error"),
    [(command, PIPE, 141, b"") for command in COMMANDS]
    + [(command, *state) for command in ("train", "compare") for state in STATES],
)
def test_help_to_any_stream(command, redirection, status, error):
    done = start(command, ["--help"], redirection)
    assert done.returncode == status
    assert done.stderr.startswith(error)
    assert done.stderr.count(b"\n") == bool(error)
    assert bool(done.stdout) == (status == 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_names_any_folder(command):
    arguments = [text.format(FOLDER) for text in MISTAKES[command]]
    done = start(command, arguments, LC_ALL="POSIX", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""


def test_an_error_without_standard_error():
    done = start("train", ["--no_such_flag"], "2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


@pytest.mark.parametrize(("encoding", "printed"), [("ascii", b"\\udcff"), ("utf-8", b"\xff")])
def test_printed_names(encoding, printed):
    code = (
        "import sys; from rebar.cli import frame\n"
        "sys.exit(frame.run(frame.flag_values, lambda v, a: print(*a), sys.argv, ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, b"\xff"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, printed + b"\n", b"")


@pytest.mark.parametrize(
    ("level", "shown"), [(None, False), ("3", False), ("2", False), ("1", False), ("0", True)]
)
def test_only_level_0_shows_start_up_lines(level, shown, monkeypatch, capfd):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if level is not None:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    with quiet_start():
        os.write(2, b"start-up line\n")
    assert bool(capfd.readouterr().err) == shown
