"""TensorBoard events: what a file holds, what is cut on resume, what TensorBoard reads."""

import math
import sys

import numpy as np
import pytest
import tensorflow as tf

from rebar.errors import RebarError
from rebar.runs import events
from rebar.runs.events import Events, cut_after


def read(folder):
    """[(file, step, tag, value)] of every value in the files' order."""
    found = []
    for number, path in enumerate(sorted(folder.iterdir())):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                found.append((number, event.step, value.tag, tf.make_ndarray(value.tensor)))
    return found


def steps(folder):
    return [(number, step) for number, step, _, _ in read(folder)]


def accumulated(folder, module="event_accumulator"):
    """What a reader of TensorBoard's makes of a folder; that of its server is plugin_..."""
    module = pytest.importorskip(f"tensorboard.backend.event_processing.{module}")
    return module.EventAccumulator(str(folder)).Reload()


def test_scalars_are_float32_with_the_metadata_of_their_plugin(tmp_path):
    with Events(tmp_path / "run") as file:
        file.scalars(7, {"elbo": np.float32(-1.5), "variance/NVIL": -math.inf})
        file.scalars(9, {"elbo": -1.25})
        file.scalars(9, {})
    found = read(tmp_path / "run")
    assert [(step, tag, float(value)) for _, step, tag, value in found] == [
        (7, "elbo", -1.5),
        (7, "variance/NVIL", -math.inf),
        (9, "elbo", -1.25),
    ]
    assert all((value.dtype, value.shape) == (np.float32, ()) for *_, value in found)
    (path,) = (tmp_path / "run").iterdir()
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    version, start, first, _ = map(tf.compat.v1.Event.FromString, records)
    assert version.file_version == "brain.Event:2"
    assert (start.session_log.status, start.step) == (tf.compat.v1.SessionLog.START, 1)
    assert {v.metadata.plugin_data.plugin_name for v in first.summary.value} == {"scalars"}


def test_images_come_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, size=(3, 5, 3)).astype(np.uint8)
    with Events(tmp_path) as file:
        file.images(4, {"pictures/samples": image})
    ((_, step, tag, value),) = read(tmp_path)
    assert (step, tag, list(value[:2])) == (4, "pictures/samples", [b"5", b"3"])
    np.testing.assert_array_equal(tf.io.decode_png(value[2]), image)


def test_tags_name_the_estimator_only_where_there_are_several():
    metrics = {"elbo": -3.0, "multi_sample_bound": -2.0, "temperature": 0.5, "eta/q_0": 1.0}
    assert events.train_tags(metrics, {"": -1.0}, {"": -2.0}) == {
        "train/elbo": -3.0,
        "train/bound": -2.0,
        "within_estimator/temperature": 0.5,
        "within_estimator/eta/q_0": 1.0,
        "variance/log_gradient_variance": -1.0,
        "variance/log_gradient_variance_q": -2.0,
    }
    assert events.train_tags({"elbo": 0.0}, {"NVIL": 1.0, "ARM": 2.0}, {"NVIL": 0.5}) == {
        "train/elbo": 0.0,
        "variance/log_gradient_variance/NVIL": 1.0,
        "variance/log_gradient_variance/ARM": 2.0,
        "variance/log_gradient_variance_q/NVIL": 0.5,
    }
    parts = {"total": 1.0, "q_0": 2.0}
    alone = {"variance_alone/log_total": 1.0, "variance_alone/log_q_0": 2.0}
    assert events.estimator_variance_tags(parts, "") == alone
    assert list(events.estimator_variance_tags(parts, "ARM")) == [f"{tag}/ARM" for tag in alone]


def written(folder, *starts):
    """Files of several starts: (steps done, steps written)."""
    for done, then in starts:
        with Events(folder, done) as file:
            for step in then:
                file.scalars(step, {"elbo": float(step)})
                file.images(step, {"pictures/a": np.zeros((2, 2, 3), np.uint8)})


def test_files_are_in_order_even_within_a_second(tmp_path):
    written(tmp_path, (0, [5]), (5, [10]), (10, [15]))
    assert steps(tmp_path) == [(i, 5 * i + 5) for i in range(3) for _ in range(2)]


def test_cutting_keeps_what_the_checkpoint_covers(tmp_path):
    written(tmp_path, (0, [5, 10]), (10, [15, 20]), (20, [25]))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    cut_after(tmp_path, 25)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    cut_after(tmp_path, 15)
    assert steps(tmp_path) == [(0, 5)] * 2 + [(0, 10)] * 2 + [(1, 15)] * 2
    first, second, third = sorted(before)
    assert first.read_bytes() == before[first]
    assert before[second].startswith(second.read_bytes())
    assert not third.exists()
    cut_after(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
    cut_after(tmp_path / "nowhere", 0)


@pytest.mark.parametrize("part", [1, 13, 40])
@pytest.mark.parametrize("whole", [3, 4, 5])
def test_what_is_torn_is_cut_off(tmp_path, whole, part):
    """A crash may leave part of a record; version and start come before the four of values."""
    written(tmp_path, (0, [5, 10]))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    assert len(records) == 6
    end = sum(len(record) + 16 for record in records[:whole])
    path.write_bytes(content[: end + part])
    cut_after(tmp_path, 10)
    assert path.read_bytes() == content[:end]
    assert list(tmp_path.iterdir()) == [path]


def test_other_files_are_left_alone(tmp_path):
    written(tmp_path, (0, [5]))
    for name in ("metrics.jsonl", "events", "myevents.out.tfevents.1.x"):
        (tmp_path / name).write_bytes(b"not events")
    cut_after(tmp_path, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "events",
        "metrics.jsonl",
        "myevents.out.tfevents.1.x",
    ]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RebarError, match=r"cannot (write|read) .*file"):
        Events(tmp_path / "file" / "run")


def test_tensorboard_reads_every_step_once_after_a_crash(tmp_path):
    written(tmp_path, (0, [5, 10, 15]))
    live = accumulated(tmp_path, "plugin_event_accumulator")
    assert [event.step for event in live.Tensors("elbo")] == [5, 10, 15]
    cut_after(tmp_path, 5)
    written(tmp_path, (5, [10]))
    fresh = (accumulated(tmp_path), accumulated(tmp_path, "plugin_event_accumulator"))
    for reader in (*fresh, live.Reload()):
        assert [event.step for event in reader.Tensors("elbo")] == [5, 10]
        assert [event.step for event in reader.Tensors("pictures/a")] == [5, 10]


def test_settings_are_written_once_a_run(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.plugins.hparams import plugin_data_pb2

    settings = {"model": "SBNARM", "n_layer": 2, "rate": 0.5, "quick": True, "track": ["A", "B"]}
    for done in (0, 5):
        with Events(tmp_path, done) as file:
            file.hparams({**settings, "preset": None}, "the-run")
            file.scalars(done + 5, {"test/bound": -1.0})
    reader = accumulated(tmp_path)
    assert [e.step for e in reader.Tensors(events.HPARAMS_TAG)] == [0]
    content = reader.SummaryMetadata(events.HPARAMS_TAG).plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    found = {n: getattr(v, v.WhichOneof("kind")) for n, v in start.hparams.items()}
    assert found == settings | {"track": "A,B"}
    assert start.group_name == "the-run"


def test_without_tensorboard_all_but_the_settings_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.plugins.hparams", None)
    with Events(tmp_path) as file:
        file.hparams({"model": "SBNARM"}, "the-run")
        file.scalars(1, {"elbo": 1.0})
    assert [tag for _, _, tag, _ in read(tmp_path)] == ["elbo"]
