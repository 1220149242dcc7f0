"""Pictures at evaluations: files, TensorBoard images, resume, and a run that is not changed."""

import functools
import json

import pytest
import tensorflow as tf

from rebar.analysis.pictures import draw_step
from rebar.errors import RebarError
from rebar.experiment import Trained
from rebar.hparams import Settings
from rebar.training.run import Run

from . import tiny

PER_EPOCH = 3
DATA = tiny.dataset()  # 10 training images: 2 full minibatches of 4 and one of 2


def run(folder, steps, draw=True, **settings):
    """Values after a run of so many steps."""
    hparams = tiny.parse("model=SBNDynamicRebar,n_layer=2")
    learner = tiny.restarted(hparams.format())
    trained = Trained(learner.model, hparams, 0, learner.estimator, folder)
    draw = functools.partial(draw_step, trained, DATA) if draw else None
    settings = Settings(**{"training_steps": steps, "eval_freq": 2, "eval_samples": 3, **settings})
    Run(learner, DATA, folder, hparams, settings, draw=draw).train()
    return tiny.values(learner)


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


def test_a_picture_at_every_evaluation_changes_nothing_else(tmp_path, capsys):
    values, printed, records = [], [], []
    for name, draw in (("with", True), ("without", False)):
        values.append(run(tmp_path / name, 5 * PER_EPOCH, draw))
        printed.append(tiny.log_lines(capsys.readouterr().out))
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        records.append([{**json.loads(line), "seconds": 0} for line in lines])
    tiny.assert_same(*values)
    assert printed[0] == printed[1]
    assert records[0] == records[1]
    assert names(tmp_path / "with") == ["step-0000006.png", "step-0000012.png"]
    first, second = (
        (tmp_path / "with" / "pictures" / name).read_bytes() for name in names(tmp_path / "with")
    )
    assert first.startswith(b"\x89PNG")
    assert first != second
    tags = ["pictures/reconstructions", "pictures/samples"]
    assert images(tmp_path / "with") == [(step, tag) for step in (6, 12) for tag in tags]


def test_none_if_none_are_asked_for(tmp_path):
    run(tmp_path / "no", 2 * PER_EPOCH, draw=False)
    run(tmp_path / "never", 2 * PER_EPOCH, eval_freq=0)
    for folder in ("no", "never"):
        assert not (tmp_path / folder / "pictures").exists()
        assert images(tmp_path / folder) == []


def test_resuming_redraws_what_is_beyond_the_checkpoint(tmp_path):
    run(tmp_path / "whole", 4 * PER_EPOCH)
    folder = tmp_path / "parts"
    run(folder, 2 * PER_EPOCH)
    torn = folder / "pictures" / "step-0000012.png"
    torn.write_bytes(b"of a process that was killed before its checkpoint")
    torn.with_name(f"{torn.name}.tmp").write_bytes(b"half")
    run(folder, 4 * PER_EPOCH)
    assert names(folder) == names(tmp_path / "whole") == ["step-0000006.png", "step-0000012.png"]
    for name in names(folder):
        expected = (tmp_path / "whole" / "pictures" / name).read_bytes()
        assert (folder / "pictures" / name).read_bytes() == expected


def test_a_picture_that_cannot_be_written(tmp_path):
    (tmp_path / "pictures").touch()
    with pytest.raises(RebarError, match=r"cannot (write|make) .*pictures"):
        run(tmp_path, 2 * PER_EPOCH)
