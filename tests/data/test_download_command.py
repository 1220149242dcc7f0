"""The download command: exit status, messages, and that it starts without TensorFlow."""

import subprocess
import sys
from pathlib import Path

import pytest

from rebar.cli import download

ROOT = Path(__file__).parents[2]


def run(*flags):
    return download.main(["download_data.py", *flags])


def test_fetches_everything_from_a_folder(small, tmp_path, capsys):
    for name in ("binarized_mnist", "mnist", "omniglot", "fashion_mnist"):
        small.write(tmp_path / "from", name, zipped=True)
    assert run(f"--source={tmp_path / 'from'}", f"--data_dir={tmp_path / 'to'}") == 0
    out, err = capsys.readouterr()
    fetched = {p.relative_to(tmp_path / "to") for p in (tmp_path / "to").rglob("*.gz")}
    assert fetched == {p.relative_to(tmp_path / "from") for p in (tmp_path / "from").rglob("*.gz")}
    assert len(fetched) == 12
    assert out.count("content matches") == 12
    assert "digits: comes with scikit-learn" in out
    assert err == ""


def test_one_failure_does_not_stop_the_other_data_sets(small, tmp_path, capsys):
    folder = small.write(tmp_path / "from", "mnist")
    flags = ["--datasets=omniglot,mnist", f"--source={folder}", f"--data_dir={tmp_path}"]
    assert run(*flags) == 2
    assert len(list((tmp_path / "mnist").iterdir())) == 4
    err = capsys.readouterr().err
    assert err.startswith("error: could not fetch omniglot/chardata.mat; check the network")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("mnist_url", "mnist"),
        ("mnist_binarized_url", "binarized_mnist"),
        ("omniglot_url", "omniglot"),
        ("fashion_url", "fashion_mnist"),
    ],
)
def test_url_flags(small, tmp_path, flag, name):
    folder = small.write(tmp_path / "from", name)
    arguments = [f"--{flag}={folder.as_uri()}", f"--data_dir={tmp_path}", f"--datasets={name}"]
    assert run(*arguments, "--source=/not/used") == 0
    assert sorted(p.name for p in (tmp_path / name).iterdir()) == sorted(
        p.name for p in folder.iterdir()
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--datasets=mnist,nist"], "unknown data set 'nist'; choose from binarized_mnist, mnist,"),
        (["--datasets="], "unknown data set ''"),
        (["--data-set=mnist"], "Unknown command line flag 'data-set'"),
        (["--timeout=0"], "flag --timeout=0"),
        (["--retries=-1"], "flag --retries=-1"),
        (["mnist"], "'mnist': unexpected"),
        (["--datasets=mnist", "--source=gopher://x"], "source 'gopher://x': must be"),
    ],
)
def test_mistakes_give_status_2_and_one_message(tmp_path, capsys, flags, message):
    assert run(f"--data_dir={tmp_path}", *flags) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert message in err
    assert out == ""


def test_interrupt(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "ensure", interrupted)
    assert run() == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_help(capsys):
    assert run("--help") == 0
    out = capsys.readouterr().out
    for flag in (
        "--data_dir",
        "--datasets",
        "--source",
        "--mnist_url",
        "--timeout",
        "--retries",
    ):
        assert flag in out


def test_the_script_runs_without_tensorflow(tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['download_data.py', '--datasets=digits', '--data_dir={tmp_path}']\n"
        "try:\n"
        "    runpy.run_path('download_data.py', run_name='__main__')\n"
        "except SystemExit as done:\n"
        "    assert done.code == 0, done.code\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "nothing to download" in done.stdout
