"""TensorBoard events: contents of a file, and what TensorBoard reads."""

import math
import sys
from contextlib import closing

import numpy as np
import pytest
import tensorflow as tf

from rebar.errors import RebarError
from rebar.runs import events
from rebar.runs.events import Events

HPARAMS_TAG = "_hparams_/session_start_info"


def read(folder):
    """[(file, step, tag, value)] of every value in the files' order."""
    found = []
    for number, path in enumerate(sorted(folder.iterdir())):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                found.append((number, event.step, value.tag, tf.make_ndarray(value.tensor)))
    return found


def accumulated(folder, module="event_accumulator"):
    """A folder as TensorBoard reads it."""
    module = pytest.importorskip(f"tensorboard.backend.event_processing.{module}")
    return module.EventAccumulator(str(folder)).Reload()


def test_scalars_are_float32_with_the_metadata_of_their_plugin(tmp_path):
    with closing(Events(tmp_path / "run")) as file:
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
    reader = accumulated(tmp_path / "run", "plugin_event_accumulator")
    assert reader.SummaryMetadata("elbo").plugin_data.plugin_name == "scalars"


def test_images_come_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, size=(3, 5, 3)).astype(np.uint8)
    with closing(Events(tmp_path)) as file:
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


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RebarError, match=r"cannot (write|read) .*file"):
        Events(tmp_path / "file" / "run")


def test_a_resumed_run_adds_a_file_and_leaves_the_old_one(tmp_path):
    with closing(Events(tmp_path)) as file:
        file.scalars(5, {"elbo": -2.0})
        file.images(5, {"pictures/a": np.zeros((2, 2, 3), np.uint8)})
    (first,) = tmp_path.iterdir()
    content = first.read_bytes()
    with closing(Events(tmp_path)) as file:
        file.scalars(10, {"elbo": -1.0})
    assert first.read_bytes() == content
    reader = accumulated(tmp_path)
    assert [event.step for event in reader.Tensors("elbo")] == [5, 10]
    assert [event.step for event in reader.Tensors("pictures/a")] == [5]


def test_settings_are_written_for_the_hparams_tab(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.plugins.hparams import plugin_data_pb2

    settings = {"model": "SBNARM", "n_layer": 2, "rate": 0.5, "quick": True, "track": ["A", "B"]}
    with closing(Events(tmp_path)) as file:
        file.hparams(settings, "the-run")
        file.scalars(5, {"test/bound": -1.0})
    reader = accumulated(tmp_path)
    assert [e.step for e in reader.Tensors(HPARAMS_TAG)] == [0]
    content = reader.SummaryMetadata(HPARAMS_TAG).plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    found = {n: getattr(v, v.WhichOneof("kind")) for n, v in start.hparams.items()}
    assert found == settings | {"track": "A,B"}
    assert start.group_name == "the-run"


def test_without_tensorboard_all_but_the_settings_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.plugins.hparams", None)
    with closing(Events(tmp_path)) as file:
        file.hparams({"model": "SBNARM"}, "the-run")
        file.scalars(1, {"elbo": 1.0})
    assert [tag for _, _, tag, _ in read(tmp_path)] == ["elbo"]
