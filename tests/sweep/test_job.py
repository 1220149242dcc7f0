"""A job: its command, its label, and its state by the run's own records."""

import json

import pytest

from rebar.hparams import HParams, run_name
from rebar.runs import checkpoint
from rebar.runs.records import MetricsFile
from rebar.sweep import grid
from rebar.sweep.job import TRAIN, Job, State, plan

HPARAMS = HParams.parse("task=digits,model=SBNARM")
FOUR = (2_000_000, 4)


def look(folder, length=FOUR, hparams=HPARAMS, seed=3):
    return Job(folder, hparams, seed, "", ()).state(*length)


@pytest.fixture
def folder(tmp_path):
    """Of a run of four epochs of ten steps; tested in the second and the last one."""
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    identity = {"hparams": HPARAMS.to_dict(), "seed": 3, "versions": {"numpy": "1"}}
    for epoch in (1, 2, 3, 4):
        record = {"step": 10 * epoch, "epoch": float(epoch), "elbo": -20.0 - epoch}
        metrics.append(record | ({"test": -10.0 - epoch} if epoch % 2 == 0 else {}))
        checkpoint.save(tmp_path, 10 * epoch, {}, {}, identity)
    return tmp_path


def test_plan(tmp_path):
    strings = [
        "task=digits,model={SBNReinforceLOO;n_samples=2,SBNARM},track=[NVIL,REBAR],follow=NVIL"
    ]
    jobs = plan(grid.points([*strings, "n_layer=2"]), [0, 5], tmp_path, ["--epochs=3"])
    assert [job.label for job in jobs] == [
        "model=SBNReinforceLOO n_samples=2 seed=0",
        "model=SBNARM n_samples=1 seed=0",
        "model=SBNReinforceLOO n_samples=2 seed=5",
        "model=SBNARM n_samples=1 seed=5",
    ]
    assert list(jobs[3].command[len(TRAIN) :]) == [
        "--hparams=task=digits,model=SBNARM,track=[NVIL,REBAR],follow=NVIL",
        "--hparams=n_layer=2",
        "--seed=5",
        f"--working_dir={tmp_path}",
        "--epochs=3",
    ]
    for job in jobs:
        assert job.record()["folder"] == job.folder.name == run_name(job.hparams, job.seed)


def rewrite(folder, change):
    path = folder / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in change(records)))


def test_finished(folder):
    assert look(folder) == (True, 40, "ELBO -24.00, test bound -14.00")


@pytest.mark.parametrize(
    ("length", "finished"),
    [
        ((2_000_000, 3), True),
        ((2_000_000, 5), False),
        ((2_000_000, 0), False),
        ((40, 0), True),
        ((40, 5), True),
        ((41, 0), False),
    ],
)
def test_length(folder, length, finished):
    assert look(folder, length).finished == finished


def test_nothing_there(tmp_path):
    assert look(tmp_path / "none") == State()


def test_a_flag_file_or_a_log_proves_nothing(tmp_path):
    (tmp_path / "finished").touch()
    (tmp_path / "metrics.jsonl").write_text('{"step": 40, "epoch": 4.0, "elbo": -1.0}\n')
    assert not look(tmp_path).finished


def test_the_last_checkpoint_is_lost_or_damaged(folder):
    path = folder / "checkpoint-40.npz"
    path.write_bytes(path.read_bytes()[:-40])
    assert look(folder) == (False, 30, "ELBO -23.00, test bound -12.00")
    path.unlink()
    assert look(folder) == (False, 30, "ELBO -23.00, test bound -12.00")


def test_no_checkpoint_is_whole(folder):
    for path in folder.glob("checkpoint-*"):
        path.write_bytes(b"no")
    state = look(folder)
    assert not state.finished
    assert "checkpoint-40.npz" in state.note


def test_the_last_record_is_missing_or_cut(folder):
    rewrite(folder, lambda records: records[:-1])
    assert not look(folder).finished
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "epo')
    assert not look(folder).finished


def test_broken_records(folder):
    path = folder / "metrics.jsonl"
    path.write_text("rubbish\n" + path.read_text())
    state = look(folder)
    assert not state.finished
    assert "line 1" in state.note


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"hparams": HParams.parse("task=digits,model=SBNDisARM")}]
)
def test_of_another_run(folder, change):
    state = look(folder, **change)
    assert not state.finished
    assert "checkpoint-40.npz" in state.note
