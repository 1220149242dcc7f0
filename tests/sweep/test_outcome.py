"""Finished means what the run's own records say, whatever else lies in its folder."""

import json

import pytest

from rebar.runs import checkpoint
from rebar.runs.records import MetricsFile
from rebar.sweep.outcome import Length, Outcome, look

IDENTITY = {"hparams": {"model": "SBN", "track": ["NVIL"]}, "seed": 3}
FOUR = Length(2_000_000, 4)


@pytest.fixture
def folder(tmp_path):
    """Of a run of four epochs of ten steps; tested in the second and the last one."""
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for epoch in (1, 2, 3, 4):
        record = {"step": 10 * epoch, "epoch": float(epoch), "elbo": -20.0 - epoch}
        metrics.append(record | ({"test": -10.0 - epoch} if epoch % 2 == 0 else {}))
        checkpoint.save(tmp_path, 10 * epoch, {}, {}, {**IDENTITY, "versions": {"numpy": "1"}})
    return tmp_path


def rewrite(folder, change):
    path = folder / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in change(records)))


def test_finished(folder):
    assert look(folder, IDENTITY, FOUR) == (True, 40, -24.0, -14.0, "")


@pytest.mark.parametrize(
    ("length", "finished"),
    [
        (Length(2_000_000, 3), True),
        (Length(2_000_000, 5), False),
        (Length(2_000_000, 0), False),
        (Length(40, 0), True),
        (Length(40, 5), True),
        (Length(41, 0), False),
    ],
)
def test_length(folder, length, finished):
    assert look(folder, IDENTITY, length).finished == finished


def test_nothing_there(tmp_path):
    assert look(tmp_path / "none", IDENTITY, FOUR) == Outcome()


def test_a_flag_file_or_a_log_proves_nothing(tmp_path):
    (tmp_path / "finished").touch()
    (tmp_path / "metrics.jsonl").write_text('{"step": 40, "epoch": 4.0, "elbo": -1.0}\n')
    assert not look(tmp_path, IDENTITY, FOUR).finished


def test_the_last_checkpoint_is_lost_or_damaged(folder):
    path = folder / "checkpoint-40.npz"
    path.write_bytes(path.read_bytes()[:-40])
    assert look(folder, IDENTITY, FOUR) == (False, 30, -23.0, -12.0, "")
    path.unlink()
    assert look(folder, IDENTITY, FOUR) == (False, 30, -23.0, -12.0, "")


def test_no_checkpoint_is_whole(folder):
    for path in folder.glob("checkpoint-*"):
        path.write_bytes(b"no")
    outcome = look(folder, IDENTITY, FOUR)
    assert not outcome.finished
    assert "no intact checkpoint found" in outcome.trouble


def test_the_last_record_is_missing_or_cut(folder):
    rewrite(folder, lambda records: records[:-1])
    assert not look(folder, IDENTITY, FOUR).finished
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "epo')
    assert not look(folder, IDENTITY, FOUR).finished


def test_broken_records(folder):
    path = folder / "metrics.jsonl"
    path.write_text("rubbish\n" + path.read_text())
    outcome = look(folder, IDENTITY, FOUR)
    assert not outcome.finished
    assert "line 1 is not a record" in outcome.trouble


@pytest.mark.parametrize("change", [{"seed": 4}, {"hparams": {"model": "SBN", "track": []}}])
def test_of_another_run(folder, change):
    outcome = look(folder, IDENTITY | change, FOUR)
    assert not outcome.finished
    assert "is of another run" in outcome.trouble


def test_an_elbo_that_is_not_finite(folder):
    rewrite(folder, lambda records: [{**record, "elbo": None} for record in records])
    assert look(folder, IDENTITY, FOUR) == (True, 40, None, -14.0, "")
