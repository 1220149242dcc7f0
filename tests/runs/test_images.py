"""Pictures at evaluations: files, TensorBoard images, resume, and a run that is not changed."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rebar.analysis.pictures import Artist
from rebar.errors import RebarError
from rebar.experiment import Trained
from rebar.hparams import HParams
from rebar.runs.images import Gallery
from rebar.training.run import Run, Schedule
from tests.training import tiny

PER_EPOCH = 3
DATA = tiny.dataset()  # 10 training images: 2 full minibatches of 4 and one of 2


def draw(step):
    return b"picture %d" % step, {"samples": np.full((2, 3, 3), step, np.uint8)}


def run(folder, steps, draw=draw, **schedule):
    """Learner after a run of so many steps; `draw` may be called with the learner's model."""
    learner = tiny.learner("model=SBNDynamicRebar,n_layer=2")
    schedule = Schedule(**{"training_steps": steps, "eval_freq": 2, "eval_samples": 3, **schedule})
    if draw is Artist:
        draw = Artist(
            Trained(learner.model, HParams(), 0, learner.estimator, Path()),
            DATA.test,
            DATA.image_shape,
        )
    Run(learner, DATA, folder, {}, batch_size=4, schedule=schedule, draw=draw).train()
    return learner


def names(folder):
    return sorted(path.name for path in (folder / "pictures").iterdir())


def images(folder):
    """Sorted (step, tag) in TensorBoard's files."""
    found = {
        (event.step, value.tag)
        for path in sorted(folder.glob("events*"))
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        for event in [tf.compat.v1.Event.FromString(record)]
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "images"
    }
    return sorted(found)


def test_a_picture_at_every_evaluation(tmp_path):
    run(tmp_path, 5 * PER_EPOCH)
    assert names(tmp_path) == ["step-0000006.png", "step-0000012.png"]
    assert (tmp_path / "pictures" / "step-0000012.png").read_bytes() == b"picture 12"
    assert images(tmp_path) == [(6, "pictures/samples"), (12, "pictures/samples")]


def test_none_if_none_are_asked_for(tmp_path):
    run(tmp_path / "no", 2 * PER_EPOCH, draw=None)
    run(tmp_path / "never", 2 * PER_EPOCH, eval_freq=0)
    for folder in ("no", "never"):
        assert not (tmp_path / folder / "pictures").exists()
        assert images(tmp_path / folder) == []


def test_drawing_changes_nothing_in_the_run(tmp_path, capsys):
    learners, printed, records = [], [], []
    for name, drawn in (("with", Artist), ("without", None)):
        learners.append(run(tmp_path / name, 4 * PER_EPOCH, draw=drawn))
        printed.append(tiny.log_lines(capsys.readouterr().out))
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        records.append([{**json.loads(line), "seconds": 0} for line in lines])
    tiny.assert_same(*map(tiny.values, learners))
    assert printed[0] == printed[1]
    assert records[0] == records[1]
    first, second = (
        (tmp_path / "with" / "pictures" / name).read_bytes() for name in names(tmp_path / "with")
    )
    assert first.startswith(b"\x89PNG")
    assert first != second


def test_resuming_neither_doubles_nor_loses_pictures(tmp_path):
    class CrashError(Exception):
        pass

    def crashing(step):
        if step == 18:
            raise CrashError
        return b"before the crash", draw(step)[1]

    run(tmp_path, 8, crashing)  # a checkpoint after the picture of step 6
    with pytest.raises(CrashError):
        run(tmp_path, 24, crashing)
    assert names(tmp_path) == ["step-0000006.png", "step-0000012.png"]
    (tmp_path / "pictures" / "step-0000018.png.tmp").write_bytes(b"half")
    run(tmp_path, 24)
    assert images(tmp_path) == [(step, "pictures/samples") for step in (6, 12, 18, 24)]
    expected = [b"before the crash", b"picture 12", b"picture 18", b"picture 24"]
    assert names(tmp_path) == [f"step-{step:07d}.png" for step in (6, 12, 18, 24)]
    found = [(tmp_path / "pictures" / name).read_bytes() for name in names(tmp_path)]
    assert found == expected


def test_pictures_beyond_the_checkpoint_go_even_if_none_are_drawn_any_more(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in (
        "step-0000003.png",
        "step-0000004.png",
        "step-12345678.png",
        "step-4.pdf",
        "my.png",
    ):
        (folder / name).touch()
    Gallery(tmp_path).truncate_after(3)
    assert names(tmp_path) == ["my.png", "step-0000003.png", "step-4.pdf"]
    Gallery(tmp_path / "nowhere").truncate_after(3)


def test_a_picture_that_cannot_be_written(tmp_path):
    (tmp_path / "pictures").touch()
    with pytest.raises(RebarError, match=r"cannot (write|make) .*pictures"):
        run(tmp_path, 2 * PER_EPOCH)
