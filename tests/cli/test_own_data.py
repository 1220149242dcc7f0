"""Every command with the data of an NPZ file."""

import json
import shlex
import subprocess
import sys

import numpy as np
import pytest

from rebar.cli import analyze, compare, draw, sweep, train
from rebar.compare import read
from tests.test_structure import PACKAGE

IMAGES = np.random.default_rng(0).integers(0, 2, [30, 6])
HPARAMS = "--hparams=task=mine.npz,model=SBNReinforceLOO,n_samples=2,n_hidden=2,batch_size=10"


def save(train=IMAGES, **arrays):
    np.savez("mine.npz", **{"train": train, "valid": IMAGES[:4], "test": IMAGES[4:], **arrays})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with the file and a short run, which is the current one."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save()
        assert training("--epochs=1", "--draw", "--eval_freq=1") == 0
        yield folder


def training(*flags, hparams=HPARAMS):
    return train.main(["rebar_train.py", hparams, "--working_dir=runs", "--jit=off", *flags])


def run_of(folder):
    (run,) = folder.glob("runs/SBNReinforceLOO-mine-1x2-*")
    return run


def test_records(folder):
    record = json.loads((run_of(folder) / "hparams.json").read_text())
    assert record["hparams"]["task"] == str(folder / "mine.npz")
    expected = f"{folder}/mine.npz: 30 train, 4 valid, 26 test images of 1x6 pixels, binary, digest"
    assert record["data"].startswith(expected)
    assert list(run_of(folder).glob("pictures/*.png"))


def test_analyze_draw_and_compare(folder, capsys):
    run = str(run_of(folder))
    assert analyze.main(["a", run, "--estimators=LOO", "--draws=20", "--batch_size=2"]) == 0
    assert f"task={folder}/mine.npz" in capsys.readouterr().out
    assert draw.main(["d", run]) == 0
    assert compare.main(["c", "runs", "--output=out"]) == 0
    assert "## mine.npz, 1 stochastic layer of 2 units" in (folder / "out/compare.md").read_text()
    assert (folder / "out" / "mine-1x2.png").exists()
    assert read([run])["data"].str.contains("digest").all()


def test_a_sweep_names_the_file_absolutely(folder, capsys):
    flags = [f"{HPARAMS},learning_rate={{0.1,0.2}}", "--sweep_dir=sweep", "--dry_run"]
    assert sweep.main(["s", *flags]) == 0
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(commands) == 2
    assert all(f"--hparams=task={folder}/mine.npz" in command for command in commands)


def test_a_sweep_refuses_invalid_data(folder, capsys):
    save(IMAGES * 2)
    assert sweep.main(["s", HPARAMS, "--sweep_dir=bad"]) == 2
    assert "mine.npz: train has values from 0 to 2" in capsys.readouterr().err
    save()


def test_resuming_is_refused_if_the_file_changed(folder, capsys):
    save(1 - IMAGES)
    assert training("--epochs=2") == 2
    assert "is of another run: data: saved '" in capsys.readouterr().err
    for command in (draw.main, analyze.main):
        assert command(["c", str(run_of(folder))]) == 2
        assert "mine.npz: the images differ from those of" in capsys.readouterr().err
    save()
    assert training("--epochs=2") == 0
    assert "resuming at step 3" in capsys.readouterr().out


def test_what_the_data_cannot_do(folder, capsys):
    save(test=IMAGES[:0])
    assert training("--draw", "--seed=1") == 2
    assert "no test images to draw; add some" in capsys.readouterr().err
    save(IMAGES / 2, kind="gray")
    assert training("--seed=1") == 2
    assert "grayscale: must be binary for SigmoidBeliefNetwork" in capsys.readouterr().err
    save(IMAGES[:, :5], valid=IMAGES[:, :5], test=IMAGES[:, :5])
    assert training("--seed=1", hparams=f"{HPARAMS},n_input=6") == 2
    assert "mine.npz have 5 pixels" in capsys.readouterr().err
    save()


def test_invalid_data_are_refused_without_tensorflow(folder):
    np.savez("bad.npz", train=IMAGES * 0.5)
    code = (
        "import sys; from rebar.cli import train; "
        "status = train.main(['t', '--hparams=task=bad.npz']); "
        "sys.exit(status + bool({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert "bad.npz: train is grayscale: must be binary" in process.stderr
