"""Every command under the streams, encodings and folders that a shell or daemon can hand it."""

import json
import os
import subprocess
import sys

import pytest

from rebar.cli import train
from rebar.runs import checkpoint
from rebar.runs.quiet import quiet_start

FOLDER = "résumé 100%\n\udcff"
"""Not ASCII, not UTF-8, with a space, a percent sign and a line break."""

COMMANDS = ("train", "download", "analyze", "draw", "compare", "sweep")

MISTAKES = {
    "train": ["--preset={}"],
    "download": ["--datasets={}"],
    "analyze": ["{}"],
    "compare": ["{}", "--output=out"],
    "sweep": ["{}"],
}
"""Arguments that are an error that names the folder."""


ENVIRONMENT = {n: v for n, v in os.environ.items() if n != "TF_CPP_MIN_LOG_LEVEL"}


def start(command, arguments, redirection="", before="", **environment):
    """Run a command by a shell, with redirections, after other commands of the shell."""
    line = f'{before}"$@" {redirection}'
    code = f"import sys; from rebar.cli.{command} import main; sys.exit(main())"
    words = ["bash", "-c", line, "bash", sys.executable, "-c", code, *arguments]
    return subprocess.run(
        [os.fsencode(word) for word in words],
        capture_output=True,
        env={**ENVIRONMENT, **environment},
        timeout=120,
    )


PIPE = '> >(exec true); exit "$?"'
"""A reader that is gone before the command writes."""

STATES = [
    (">&-", 2, b"error: standard output: closed"),
    (">/dev/full", 2, b"error: standard output: No space left on device"),
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


@pytest.mark.parametrize("command", MISTAKES)
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


ANALYZED = ("--estimators=ST,LOO", "--draws=20", "--batch_size=2")
TINY = "--hparams=model=CatST,task=digits_grey,n_categories=2,n_latents=2"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of a small run, and its parent."""
    folder = tmp_path_factory.mktemp("runs")
    flags = [TINY, "--epochs=1", "--eval_freq=0", "--jit=off", f"--working_dir={folder}"]
    assert train.main(["rebar-train", *flags]) == 0
    return next(folder.iterdir()), folder


def work(command, runs, folder):
    """Arguments for a little work, and the files that it writes."""
    run, parent = runs
    out = folder / "out"
    return {
        "train": (
            [TINY, "--training_steps=2", "--eval_samples=2", "--jit=off", f"--working_dir={out}"],
            [out / run.name],
        ),
        "download": (["--datasets=digits", f"--data_dir={out}"], []),
        "analyze": (
            [run, *ANALYZED, f"--output={out}.json", f"--figure={out}.png"],
            [folder / "out.json", folder / "out.png"],
        ),
        "draw": ([run, f"--output={out}.pdf"], [folder / "out.pdf"]),
        "compare": (
            [parent, "nowhere", f"--output={out}"],
            [out / "compare.md", out / "compare.csv", out / "digits_grey-2x2.pdf"],
        ),
        "sweep": ([TINY, f"--sweep_dir={out}", "--dry_run", "--", "--epochs=1"], []),
    }[command]


POOR = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "HOME": "/proc/nowhere",
    "XDG_CONFIG_HOME": "/proc/nowhere",
    "XDG_CACHE_HOME": "/proc/nowhere",
    "MPLCONFIGDIR": "/proc/nowhere",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_work_in_a_poor_environment(command, runs, tmp_path):
    """No writable home, no place for configuration, no terminal, and the current folder is gone.

    Nothing is lost where nobody reads the output, either.
    """
    arguments, files = work(command, runs, tmp_path)
    redirection, status = (PIPE, 141) if command in ("analyze", "compare") else ("", 0)
    before = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; unset TERM; "
    done = start(command, map(str, arguments), redirection, before, **POOR)
    assert (done.returncode, done.stderr) == (status, b"")
    assert all(path.exists() for path in files)


@pytest.mark.parametrize("command", ["compare", "download"])
def test_work_without_a_home(command, runs, tmp_path):
    arguments, files = work(command, runs, tmp_path)
    done = start(command, map(str, arguments), before="unset HOME TERM; ")
    assert (done.returncode, done.stderr) == (0, b"")
    assert all(path.exists() for path in files)


def test_a_run_whose_reader_leaves_is_saved(tmp_path):
    """As after `| head`: it ends with a checkpoint and the record of the same step."""
    flags = [TINY, "--epochs=1000", "--eval_freq=0", "--jit=off", f"--working_dir={tmp_path}"]
    with subprocess.Popen(
        [sys.executable, "-m", "rebar.cli.train", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        lines = iter(process.stdout.readline, b"")
        assert any(line.startswith(b"Step ") for line in lines)
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (141, b"")
    (folder,) = tmp_path.iterdir()
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert checkpoint.latest(folder).step == last["step"] < 1000 * 55
