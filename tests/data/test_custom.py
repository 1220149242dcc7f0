"""User-defined data: arrays, NPZ files and registered loaders."""

import types

import numpy as np
import pytest

import rebar
from rebar.data import Dataset, ensure, from_arrays, load
from rebar.data.sources import file_task, task_slug, task_title
from rebar.errors import RebarError
from rebar.hparams import HParams, run_name

RANDOM = np.random.default_rng(0)
BINARY = RANDOM.integers(0, 2, [12, 6])
GRAY = RANDOM.uniform(size=[12, 6])

pytestmark = pytest.mark.usefixtures("own_registry")


def test_from_arrays():
    data = from_arrays(BINARY, BINARY[:5], image_shape=(2, 3), name="mine")
    assert (data.train.dtype, data.image_shape, len(data.test)) == (np.uint8, (2, 3), 0)
    np.testing.assert_array_equal(data.train, BINARY)
    np.testing.assert_allclose(data.mean, BINARY.mean(axis=0), rtol=1e-6)
    assert not data.grayscale
    expected = f"mine: 12 train, 5 valid, 0 test images of 2x3 pixels, binary, digest {data.digest}"
    assert data.description == expected
    assert BINARY.flags.writeable
    gray = from_arrays(GRAY, kind="gray")
    assert (gray.train.dtype, gray.grayscale, gray.image_shape) == (np.float32, True, (1, 6))


def test_any_sequence_of_any_shape():
    plain = from_arrays(BINARY, image_shape=(2, 3))
    images = BINARY.reshape(12, 2, 3)
    for train in (images, images[..., np.newaxis], images.tolist(), [*images], images.astype(bool)):
        data = from_arrays(train)
        assert (data.image_shape, data.digest) == ((2, 3), plain.digest)
    assert from_arrays(BINARY.tolist()).image_shape == (1, 6)
    assert from_arrays(np.zeros([3, 16])).image_shape == (4, 4)


def test_the_digest_depends_on_every_pixel_and_split():
    changed = BINARY.copy()
    changed[3, 2] ^= 1
    sets = [
        *(from_arrays(BINARY), from_arrays(changed), from_arrays(BINARY, BINARY)),
        *(from_arrays(BINARY, None, BINARY), from_arrays(BINARY, image_shape=(3, 2))),
    ]
    assert len({data.digest for data in sets}) == len(sets)


def test_tf_data():
    import tensorflow as tf

    single = tf.data.Dataset.from_tensor_slices(BINARY.reshape(12, 2, 3))
    for dataset in (single, single.batch(5)):
        np.testing.assert_array_equal(from_arrays(dataset).train, BINARY)
        assert from_arrays(dataset).image_shape == (2, 3)
    flat = tf.data.Dataset.from_tensor_slices(BINARY).batch(5)
    np.testing.assert_array_equal(from_arrays(flat).train, BINARY)
    with pytest.raises(RebarError, match=r"train: the tf.data.Dataset is infinite; remove repeat"):
        from_arrays(single.repeat())
    pairs = tf.data.Dataset.from_tensor_slices((BINARY, BINARY))
    with pytest.raises(RebarError, match=r"valid: elements .* use e\.g\. dataset\.map"):
        from_arrays(BINARY, pairs)


INVALID = {
    r"kind 'grey'; choose from binary, gray; did you mean gray": {"kind": "grey"},
    r"train is grayscale: must be binary; .*train > 0\.5, or use kind='gray'": {"train": GRAY},
    r"test is grayscale": {"test": GRAY},
    r"valid has shape \[12, 5\]: must be \[n, 6\]": {"valid": BINARY[:, :5]},
    r"train has shape \[12, 1, 2, 3\]": {"train": BINARY.reshape(12, 1, 2, 3)},
    r"train has values from 0 to 255.*divide by 255": {"train": BINARY * 255, "kind": "gray"},
    r"not finite": {"train": np.where(BINARY, 1, np.nan), "kind": "gray"},
    r"train has dtype object": {"train": np.array([[None] * 6])},
    r"train.*inhomogeneous": {"train": [[0, 1], [0]]},
    r"train has dtype object: must be numbers": {"train": iter(BINARY)},
    r"'arrays' has no training images": {"train": BINARY[:0]},
    r"image_shape=\(4, 2\): must be two integers with the product 6": {"image_shape": (4, 2)},
    r"image_shape=\(6,\)": {"image_shape": (6,)},
}


@pytest.mark.parametrize("message", INVALID)
def test_invalid_arrays(message):
    with pytest.raises(RebarError, match=message):
        from_arrays(**{"train": BINARY, **INVALID[message]})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file(folder):
    np.savez("my digits.npz", train=GRAY, valid=GRAY[:2], kind="gray", image_shape=[3, 2])
    task = HParams(model="CatReinMax", task="my digits.npz").task
    assert task == HParams(task=folder / "my digits.npz").task == str(folder / "my digits.npz")
    data = rebar.load_data(task)
    assert (data.name, data.image_shape, data.grayscale, data.custom) == (task, (3, 2), True, True)
    assert data.description.startswith(f"{task}: 12 train, 2 valid, 0 test images")
    assert ensure(task, folder) == []
    assert (task_title(task), task_slug(task)) == ("my digits.npz", "my_digits")
    assert run_name(HParams(task=task), 0).startswith("SBNGumbel-my_digits-1x200-")


def test_gray_images_are_binarized_when_used(folder):
    np.savez("mine.npz", train=GRAY, valid=GRAY, test=BINARY, kind="gray")
    data = load(str(folder / "mine.npz"), dynamic=True)
    assert data.dynamic
    assert not data.grayscale
    np.testing.assert_allclose(data.train, GRAY, rtol=1e-6)
    assert set(np.unique(data.valid)) == {0, 1}
    np.testing.assert_array_equal(data.test, BINARY)
    assert "binarized anew" in data.description
    assert task_title(data.name, dynamic=True) == "Dynamically binarized mine.npz"
    np.savez("mine.npz", train=BINARY)
    with pytest.raises(RebarError, match=r"training images of task=.*mine\.npz are binary"):
        load(str(folder / "mine.npz"), dynamic=True)


FILES = {
    "has no key 'train'": {"valid": BINARY},
    "unknown key 'validation'; .*did you mean valid": {"train": BINARY, "validation": BINARY},
    "has pickled objects": {"train": np.array([[None] * 6])},
    "train is grayscale": {"train": GRAY},
    "unknown kind 'grey'": {"train": BINARY, "kind": "grey"},
    r"image_shape=\(2, 2\): must be": {"train": BINARY, "image_shape": [2, 2]},
    "not finite": {"train": np.where(BINARY, 1, np.nan)},
}


@pytest.mark.parametrize("message", FILES)
def test_invalid_files(folder, message):
    np.savez("mine.npz", **FILES[message])
    with pytest.raises(RebarError, match=rf"task=.*mine\.npz: .*{message}"):
        load(str(folder / "mine.npz"))


def test_files_that_are_no_archives(folder):
    with pytest.raises(RebarError, match=r"task=.*none\.npz: No such file"):
        load(str(folder / "none.npz"))
    np.save("mine.npy", BINARY)
    (folder / "array.npz").write_bytes((folder / "mine.npy").read_bytes())
    (folder / "text.npz").write_text("train")
    (folder / "empty.npz").write_bytes(b"")
    np.savez("cut.npz", train=BINARY)
    (folder / "cut.npz").write_bytes((folder / "cut.npz").read_bytes()[:200])
    for name in ("array", "text", "empty", "cut"):
        with pytest.raises(RebarError, match=rf"task=.*{name}\.npz: (is damaged|has pickled)"):
            load(str(folder / f"{name}.npz"))
    (folder / "folder.npz").mkdir()
    with pytest.raises(RebarError, match="directory"):
        load(str(folder / "folder.npz"))


@pytest.mark.parametrize("character", [",", "[", "(", "{", ";", "'", "\n"])
def test_paths_that_a_string_cannot_hold(character):
    with pytest.raises(RebarError, match=r"a path must not contain commas.*rename"):
        HParams(task=f"/data/a{character}b.npz")


def test_a_malformed_path_in_a_string():
    with pytest.raises(RebarError, match=r"'b\.npz'; .*paths must not contain , \[ \] \( \)"):
        HParams.parse("task=a,b.npz")


def test_a_path_survives_its_string(monkeypatch):
    hparams = HParams.parse("task=~/some data/a=b.npz,n_layer=2")
    monkeypatch.setenv("HOME", "/nowhere")
    assert HParams.parse(hparams.format()) == hparams == HParams.from_dict(hparams.to_dict())
    assert file_task("a.npz") == file_task("./b/../a.npz")


def test_loaders(folder):
    calls = []

    def full(data_dir, dynamic=False):
        calls.append((data_dir, dynamic))
        return from_arrays(GRAY, kind="gray")

    rebar.register_task("mine", full)
    rebar.register_task("halves", lambda: from_arrays(BINARY), conditional=True)
    data = load("mine", "there", dynamic=True)
    assert calls == [("there", True)]
    assert (data.name, data.dynamic, data.custom) == ("mine", True, True)
    assert data.description.startswith("mine: 12 train, ")
    assert HParams(task="mine").task == "mine"
    assert task_title("halves") == "halves, lower half given upper half"
    assert HParams(task="halves").task == "halves"
    with pytest.raises(RebarError, match="task=halves: unsupported by model=CatReinMax"):
        HParams(model="CatReinMax", task="halves")


LOADERS = {
    r"loader of task=mine returned ndarray; return a rebar\.data\.Dataset": lambda: BINARY,
    r"loader of task=mine needs size": lambda size: BINARY,
    r"task=mine binarizes .*; add dynamic_b=true": lambda: Dataset(
        *("x", GRAY, BINARY, BINARY, np.full(6, 0.5), (2, 3), "", True)
    ),
    r"train is grayscale": lambda data_dir: from_arrays(GRAY),
}


@pytest.mark.parametrize("message", LOADERS)
def test_invalid_loaders(message):
    rebar.register_task("mine", LOADERS[message])
    with pytest.raises(RebarError, match=message):
        load("mine")


@pytest.mark.parametrize(
    ("name", "loader", "message"),
    [
        ("digits", int, "task 'digits': already registered"),
        ("mnist", int, "already registered"),
        ("omniglot", int, "already registered"),
        ("a,b", int, "invalid name of a task"),
        ("a.npz", int, "invalid name of a task"),
        ("mine", from_arrays(BINARY), "loader of mine: is a Dataset; pass a function"),
    ],
)
def test_invalid_registrations(name, loader, message):
    with pytest.raises(RebarError, match=message):
        rebar.register_task(name, loader)


def test_unknown_tasks():
    with pytest.raises(RebarError, match=r"task='digit'.*path of an NPZ file.*did you mean digits"):
        HParams(task="digit")
    with pytest.raises(RebarError, match=r"unknown task 'digit'.*PATH\.npz; did you mean digits"):
        load("digit")


def test_sets_without_a_shape_are_refused():
    unknown_rank = types.SimpleNamespace(
        element_spec=types.SimpleNamespace(shape=types.SimpleNamespace(rank=None)),
        as_numpy_iterator=list,
    )
    with pytest.raises(RebarError, match="must be tensors of images"):
        from_arrays(unknown_rank)
