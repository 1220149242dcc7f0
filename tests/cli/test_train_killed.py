"""The train command, killed, stopped and out of room: real processes and real file systems."""

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rebar.cli import train
from rebar.runs import checkpoint
from rebar.training.evaluate import Evaluator
from tests.training import faults, tiny
from tests.training.test_kills import lines, records

ROOT = Path(__file__).parents[2]
FLAGS = (
    *("--hparams=model=SBNDynamicRebar,task=digits,n_layer=2,n_hidden=8", "--jit=off"),
    *("--eval_freq=1", "--eval_samples=3", "--variance_freq=2", "--variance_draws=4"),
    *("--save_seconds=0", "--draw"),
)
STEPS = 55
"""An epoch of the digits."""


def run_of(working_dir):
    (folder,) = working_dir.iterdir()
    return folder


def log_lines(text):
    """[(heading such as "Step 55", line)] of a log, a log variance being its step's second line."""
    found, step = [], None
    for line in lines(text):
        match = re.match(r"(Step|Valid|Test|Variance) \d+", line)
        if match:
            found.append((match[0], line))
            step = match[0] if match[1] == "Step" else None
        elif step and re.fullmatch(r"-?\d[-\d.e]*|-inf", line):
            found.append((f"{step}, variance", line))
    return found


def assert_same_run(one, other):
    """Two runs' folders hold the same, bit by bit, and nothing that a kill left."""
    first, second = checkpoint.latest(one), checkpoint.latest(other)
    assert (first.step, first.metadata) == (second.step, second.metadata)
    tiny.assert_same(first.variables, second.variables)
    tiny.assert_same(first.extra, second.extra)
    assert records(one) == records(other)
    assert tiny.scalars(one) == tiny.scalars(other)
    found, expected = faults.files(one), faults.files(other)
    for name in {*found, *expected}:
        assert name.startswith("events") or (name in found and name in expected), name
        if name.endswith((".png", ".npz")):
            assert found[name] == expected[name], name


@pytest.mark.parametrize(
    ("kills", "least", "epochs"), [(3, 2, 6), pytest.param(36, 30, 40, marks=pytest.mark.slow)]
)
def test_killed_until_it_is_done(tmp_path, kills, least, epochs):
    """SIGKILL at random moments; what the folder and the log hold is as if nothing had been."""
    flags = (*FLAGS, f"--epochs={epochs}", f"--data_dir={tmp_path / 'data'}")
    flags += () if least > 2 else ("--variance_freq=0",)
    command = [sys.executable, "-m", "tests.cli.killed", str(kills), "1", str(tmp_path), *flags]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert found.returncode == 0, found.stderr
    done = int(found.stdout)
    assert least <= done <= kills  # a quick machine may be done before the last ones
    assert_same_run(run_of(tmp_path / "parts"), run_of(tmp_path / "whole"))

    text = (tmp_path / "parts.log").read_text()
    starts = text.splitlines().count("start")
    resumed = text.count("resuming at step")
    print(f"{starts} starts, {resumed} of them from a checkpoint")
    assert starts == done + 1
    assert resumed >= done / 2
    expected = log_lines((tmp_path / "whole.log").read_text())
    assert len(expected) == 4 * epochs + (epochs // 2 if least > 2 else 0)
    assert len(dict(expected)) == len(expected)
    printed = log_lines(text)
    assert set(printed) == set(expected)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 200 KB; and what changes its options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)],
            check=True,
            capture_output=True,
        )

    try:
        mount("size=200k")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system is not permitted here")
    yield folder, lambda option: mount("remount", option)
    subprocess.run(["umount", "-l", str(folder)], check=True)


SMALL = ("--hparams=model=SBNNVIL,n_layer=1", "--variance_freq=0", "--nodraw", "--epochs=2")


def run(tmp_path, working_dir, *flags):
    """Exit status of the command in this process, with less to compile and to save."""
    folders = (f"--working_dir={working_dir}", f"--data_dir={tmp_path / 'data'}")
    return train.main(["rebar_train.py", *FLAGS, *SMALL, *folders, *flags])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder of a run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, folder / "runs") == 0
    return run_of(folder / "runs")


def test_the_same_command_again_does_the_same_and_another_seed_does_not(tmp_path, whole):
    assert run(tmp_path, tmp_path / "again") == 0
    assert_same_run(run_of(tmp_path / "again"), whole)
    assert run(tmp_path, tmp_path / "other", "--seed=1") == 0
    assert all(
        one["step"] == other["step"] and one["elbo"] != other["elbo"]
        for one, other in zip(records(run_of(tmp_path / "other")), records(whole), strict=True)
    )


def test_a_full_and_a_read_only_disk(tmp_path, capsys, small_disk, whole):
    """Room for one checkpoint only; then for all, but read-only; then as it should be."""
    disk, remount = small_disk
    assert run(tmp_path, disk) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(
        r"error: cannot write \S*/checkpoint-55\.npz: No space left on device; free disk .*\n",
        error,
    )
    folder = run_of(disk)
    assert checkpoint.latest(folder).step == STEPS - 1
    assert not list(folder.glob("*.tmp"))

    remount("size=4m")
    remount("ro")
    before = faults.files(disk)
    assert run(tmp_path, disk) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: cannot create or lock \S*: Read-only file system; .*\n", error)
    assert faults.files(disk) == before

    remount("rw")
    assert run(tmp_path, disk) == 0
    assert "resuming at step 54 from" in capsys.readouterr().out
    assert_same_run(folder, whole)


def test_standard_output_on_a_full_disk(tmp_path, capsys):
    """It is an error in one line, too, also where nothing can be flushed at exit."""
    with open("/dev/full", "w") as full, contextlib.redirect_stdout(full):
        assert run(tmp_path, tmp_path / "runs") == 2
    assert capsys.readouterr().err == (
        "error: standard output: No space left on device; free disk space, or redirect it\n"
    )


def test_out_of_file_descriptors(tmp_path, capsys, monkeypatch, whole):
    """From the first evaluation on; a start that has some goes on."""
    held = []
    evaluate = Evaluator.__call__

    def exhaust(*arguments):
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(2))
        return evaluate(*arguments)

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "__call__", exhaust)
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        try:
            status = run(tmp_path, tmp_path / "runs")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for descriptor in held:
                os.close(descriptor)
    assert status == 2
    assert re.fullmatch(
        r"error: cannot write \S*/metrics\.jsonl: Too many open files; free disk space.*\n",
        capsys.readouterr().err,
    )
    folder = run_of(tmp_path / "runs")
    assert checkpoint.latest(folder).step == STEPS - 1
    assert run(tmp_path, tmp_path / "runs") == 0
    assert_same_run(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, number, status):
    """The status of the command is 128 + the signal's number, as a shell says it."""
    command = [sys.executable, "rebar_train.py", *FLAGS, "--epochs=4", "--save_seconds=1e9"]

    def start(folder, until=None):
        with subprocess.Popen(
            [*command, f"--working_dir={folder}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process:
            out = ""
            for line in process.stdout:
                out += line
                if until and line.startswith(until):
                    process.send_signal(number)
                    until = None
            assert process.stderr.read() == ""
        return process.returncode, out

    parts, whole = tmp_path / "parts", tmp_path / "whole"
    ended, first = start(parts, "Step 55")
    name = signal.Signals(number).name
    match = re.search(rf"\n{name}: saved at step (\d+); rerun the same command to resume\n$", first)
    assert (ended, bool(match)) == (status, True), first
    assert 55 <= int(match[1]) < 4 * STEPS
    ended, second = start(parts)
    assert ended == 0
    assert f"resuming at step {match[1]} from" in second
    ended, expected = start(whole)
    assert ended == 0
    (run_of(parts) / f"checkpoint-{match[1]}.npz").unlink()  # the one that the signal made
    assert_same_run(run_of(parts), run_of(whole))
    assert log_lines(first) + log_lines(second) == log_lines(expected)
