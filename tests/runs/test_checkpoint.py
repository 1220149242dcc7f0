"""Checkpoints come back exactly, are never half there, and damage does not pass unseen."""

import io
import json
import os
import re
import resource
import zipfile

import numpy as np
import pytest

from rebar.errors import RebarError
from rebar.hparams import HParams
from rebar.runs import checkpoint
from rebar.runs.checkpoint import latest, restore, save

EXTRA = {"sums": np.array([1.5, -np.inf]), "count": np.array(3), "empty": np.zeros((0, 2))}
METADATA = {"hparams": HParams(n_layer=2).to_dict(), "seed": 3, "versions": {"numpy": "2"}}
EXPECTED = {"hparams": HParams(n_layer=2).to_dict(), "seed": 3}


class Variable:
    """What a checkpoint asks of a variable; counts the assignments."""

    def __init__(self, value):
        self.value = np.array(value)
        self.assigned = 0

    def numpy(self):
        return self.value

    def assign(self, value):
        self.value = value.copy()
        self.assigned += 1


def make_variables(seed=0):
    generator = np.random.default_rng(seed)
    return {
        "model/q_0/kernel": Variable(generator.normal(size=(3, 2)).astype(np.float32)),
        "model/q_0/bias": Variable(generator.normal(size=2).astype(np.float32)),
        "optimizer/iterations": Variable(np.int64(generator.integers(1000))),
        "estimator/pre_temperature": Variable(generator.normal(size=())),
    }


def save_steps(folder, *steps):
    """Checkpoints whose variables were made with the step as the seed."""
    for step in steps:
        save(folder, step, make_variables(step), EXTRA, METADATA)


def assert_holds(variables, seed):
    for name, variable in make_variables(seed).items():
        np.testing.assert_array_equal(variables[name].value, variable.value)
        assert variables[name].value.dtype == variable.value.dtype


def test_everything_comes_back_exactly(tmp_path):
    path = save(tmp_path / "new" / "run", 7, make_variables(7), EXTRA, METADATA)
    assert path == tmp_path / "new" / "run" / "checkpoint-7.npz"
    variables = make_variables(0)
    restored = restore(path.parent, variables, EXPECTED)
    assert_holds(variables, 7)
    assert (restored.path, restored.step, restored.metadata) == (path, 7, METADATA)
    assert restored.extra.keys() == EXTRA.keys()
    for name, array in EXTRA.items():
        np.testing.assert_array_equal(restored.extra[name], array)
        assert restored.extra[name].dtype == array.dtype


def test_keras_and_tensorflow_variables_come_back(tmp_path):
    import keras
    import tensorflow as tf

    variables = {
        "keras": keras.Variable(np.float32([[1, 2]]), name="k"),
        "tensorflow": tf.Variable([3, 4], dtype=tf.int64),
        "flag": keras.Variable(True, dtype="bool"),
    }
    save(tmp_path, 1, variables, {}, METADATA)
    variables["keras"].assign([[0, 0]])
    variables["tensorflow"].assign([0, 0])
    variables["flag"].assign(False)
    restore(tmp_path, variables, EXPECTED)
    assert [v.numpy().tolist() for v in variables.values()] == [[[1, 2]], [3, 4], True]


def test_nothing_to_restore(tmp_path):
    variables = make_variables()
    (tmp_path / "checkpoint-x.npz").write_bytes(b"not ours")
    assert restore(tmp_path, variables, EXPECTED) is None
    assert restore(tmp_path / "missing", variables, EXPECTED) is None
    assert all(variable.assigned == 0 for variable in variables.values())


def test_the_last_two_are_kept(tmp_path):
    (tmp_path / "checkpoint-50.npz.tmp").write_bytes(b"left by a kill")
    (tmp_path / "hparams.json").write_text("{}")
    for step, left in [(9, {9}), (10, {9, 10}), (100, {10, 100}), (100, {10, 100})]:
        save_steps(tmp_path, step)
        expected = {f"checkpoint-{s}.npz" for s in left} | {"hparams.json"}
        assert set(os.listdir(tmp_path)) == expected
    assert latest(tmp_path).step == 100


def test_after_going_back_the_damaged_one_goes(tmp_path):
    save_steps(tmp_path, 1, 2)
    (tmp_path / "checkpoint-9.npz").write_bytes(b"damaged")
    save_steps(tmp_path, 3)
    assert set(os.listdir(tmp_path)) == {"checkpoint-2.npz", "checkpoint-3.npz"}
    assert latest(tmp_path).step == 3


def test_a_damaged_checkpoint_is_named_and_the_one_before_restored(tmp_path):
    save_steps(tmp_path, 1, 2)
    newest = tmp_path / "checkpoint-2.npz"
    newest.write_bytes(newest.read_bytes()[:-100])
    variables = make_variables()
    with pytest.warns(RuntimeWarning, match=r"checkpoint-2\.npz.*back to checkpoint-1\.npz"):
        assert restore(tmp_path, variables, EXPECTED).step == 1
    assert_holds(variables, 1)


def test_if_none_is_whole_the_run_does_not_start_afresh_unseen(tmp_path):
    save_steps(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(RebarError, match=r"checkpoint-2\.npz.*checkpoint-1\.npz.*--working_dir"):
        latest(tmp_path)


def test_every_truncation_is_detected(tmp_path):
    path = save(tmp_path, 1, make_variables(), EXTRA, METADATA)
    content = path.read_bytes()
    for length in range(0, len(content), 29):
        path.write_bytes(content[:length])
        with pytest.raises(RebarError, match=r"checkpoint-1\.npz"):
            latest(tmp_path)


def test_a_flipped_bit_is_detected_or_harmless(tmp_path):
    path = save(tmp_path, 1, make_variables(), EXTRA, METADATA)
    content = path.read_bytes()
    detected = 0
    offsets = range(0, len(content), 17)
    for offset in offsets:
        damaged = bytearray(content)
        damaged[offset] ^= 1 << offset % 8
        path.write_bytes(damaged)
        variables = make_variables(1)
        try:
            # Some bits of an archive, such as its dates, mean nothing to us.
            restored = restore(tmp_path, variables, EXPECTED)
        except RebarError as error:
            assert "intact" in str(error)  # noqa: PT017
            assert all(variable.assigned == 0 for variable in variables.values())
            detected += 1
        else:
            assert_holds(variables, 0)
            assert (restored.step, restored.metadata) == (1, METADATA)
            for name, array in EXTRA.items():
                np.testing.assert_array_equal(restored.extra[name], array)
    assert detected > len(offsets) / 2


def test_a_renamed_checkpoint_is_not_taken_for_another_step(tmp_path):
    path = save(tmp_path, 1, make_variables(), EXTRA, METADATA)
    path.rename(tmp_path / "checkpoint-5.npz")
    with pytest.raises(RebarError, match=r"checkpoint-5\.npz"):
        latest(tmp_path)


def test_nothing_is_unpickled(tmp_path):
    content = io.BytesIO()
    np.savez(content, **{"variables/x": np.array([print], dtype=object)})
    (tmp_path / "checkpoint-1.npz").write_bytes(content.getvalue())
    with pytest.raises(RebarError, match=r"checkpoint-1\.npz"):
        latest(tmp_path)
    with pytest.raises(TypeError, match="extra/x is of type object"):
        save(tmp_path, 2, {}, {"x": np.array([print], dtype=object)}, {})


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"model/q_1/bias": np.zeros(2)}, ["model/q_1/bias: saved '(none)'"]),
        ({"model/q_0/bias": None}, ["model/q_0/bias: saved 'float32[2]', now '(none)'"]),
        (
            {"model/q_0/bias": np.zeros(3, np.float32)},
            ["model/q_0/bias: saved 'float32[2]', now 'float32[3]'"],
        ),
        ({"model/q_0/bias": np.zeros(2)}, ["saved 'float32[2]', now 'float64[2]'"]),
        (
            {
                "model/q_0/bias": None,
                "optimizer/iterations": np.zeros(1, np.int64),
                "new": np.zeros(1),
            },
            ["model/q_0/bias", "optimizer/iterations: saved 'int64[]', now 'int64[1]'", "new"],
        ),
    ],
)
def test_variables_must_fit_before_any_is_assigned(tmp_path, changes, parts):
    save_steps(tmp_path, 1)
    variables = make_variables()
    for name, value in changes.items():
        if value is None:
            del variables[name]
        else:
            variables[name] = Variable(value)
    with pytest.raises(RebarError) as caught:
        restore(tmp_path, variables, EXPECTED)
    for part in (*parts, "--working_dir", "checkpoint-1.npz"):
        assert part in str(caught.value)
    assert all(variable.assigned == 0 for variable in variables.values())


def test_hyperparameters_must_be_those_of_the_run(tmp_path):
    save_steps(tmp_path, 1)
    variables = make_variables()
    other = HParams(n_layer=3, learning_rate=0.5).to_dict()
    del other["trial"]
    with pytest.raises(RebarError) as caught:
        restore(tmp_path, variables, {"hparams": other, "seed": 4, "mode": "jit"})
    message = str(caught.value)
    for part in (
        "n_layer: saved 2, now 3",
        "learning_rate: saved 0.001, now 0.5",
        "trial: saved 1, now '(none)'",
        "seed: saved 3, now 4",
        "mode: saved '(none)', now 'jit'",
        "--working_dir",
    ):
        assert part in message
    assert message.count("saved") == 5
    assert all(variable.assigned == 0 for variable in variables.values())


def test_metadata_that_is_not_expected_may_differ_and_tuples_equal_lists(tmp_path):
    save(tmp_path, 1, make_variables(1), {}, {"versions": "old", "track": ("NVIL",)})
    assert restore(tmp_path, make_variables(), {"track": ("NVIL",)}).metadata["track"] == ["NVIL"]


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    save_steps(tmp_path, 1, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(RebarError, match=r"cannot write .*checkpoint-3\.npz: File too large"):
            save_steps(tmp_path, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert set(os.listdir(tmp_path)) == {"checkpoint-1.npz", "checkpoint-2.npz"}
    assert latest(tmp_path).step == 2


def test_a_kill_while_writing_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    save_steps(tmp_path, 1, 2)
    before = set(os.listdir(tmp_path))

    def killed(path, content):
        path.with_name(f"{path.name}.tmp").write_bytes(content[:500])
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_file", killed)
        with pytest.raises(SystemExit):
            save_steps(tmp_path, 3)
    assert set(os.listdir(tmp_path)) == before | {"checkpoint-3.npz.tmp"}
    assert latest(tmp_path).step == 2
    save_steps(tmp_path, 4)
    assert set(os.listdir(tmp_path)) == {"checkpoint-2.npz", "checkpoint-4.npz"}


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(
        RebarError, match=rf"cannot write {re.escape(str(file))}/run/\S*: Not a directory"
    ):
        save_steps(file / "run", 1)
    with pytest.raises(
        RebarError, match=rf"cannot write {re.escape(str(file))}/\S*: (File exists|Not a dir)"
    ):
        save_steps(file, 1)
    with pytest.raises(RebarError, match=re.escape(str(file))):
        latest(file)
    (tmp_path / "checkpoint-1.npz").mkdir()
    with pytest.raises(RebarError, match=r"cannot read .*checkpoint-1\.npz: Is a directory"):
        latest(tmp_path)


def test_a_checkpoint_is_an_ordinary_archive(tmp_path):
    path = save(tmp_path, 1, make_variables(), EXTRA, METADATA)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    with np.load(path, allow_pickle=False) as archive:
        assert "variables/model/q_0/kernel" in archive.files


def test_a_checkpoint_with_a_checksum_of_its_own_loads(tmp_path):
    """As written before the archive's own checksums were relied on."""
    save_steps(tmp_path, 7)
    (path,) = tmp_path.iterdir()
    with np.load(path) as archive:
        arrays = dict(archive)
    description = json.loads(arrays["description"].tobytes())
    del description["names"]
    text = json.dumps(description).encode()
    arrays |= {"description": np.frombuffer(text, np.uint8), "checksum": np.zeros(32, np.uint8)}
    np.savez(path, **arrays)
    assert latest(tmp_path).step == 7
    variables = make_variables(1)
    restore(tmp_path, variables, {})
    assert_holds(variables, 7)
