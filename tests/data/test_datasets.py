"""Loading tasks: from small synthetic files, from damaged ones, and the digits exactly."""

import gzip
import hashlib

import numpy as np
import pytest

from rebar.data import TASKS, files, load
from rebar.errors import RebarError

from .conftest import amat_text, mat_bytes

DIGITS = ["19e0d2df0f239551", "06159aa7a659e757", "5e97cc59b19f0381"]
"""Digests of the digits' training, validation and test images."""


def check_form(dataset, dynamic):
    n_pixels = dataset.image_shape[0] * dataset.image_shape[1]
    assert dataset.dynamic == dynamic
    assert dataset.train.dtype == (np.float32 if dynamic else np.uint8)
    assert dataset.train.min() == 0
    assert dataset.train.max() == 1
    assert dynamic == bool(((dataset.train > 0) & (dataset.train < 1)).any())
    for array in (dataset.valid, dataset.test):
        assert array.dtype == np.uint8
        assert set(np.unique(array)) == {0, 1}
    assert {a.shape[1] for a in (dataset.train, dataset.valid, dataset.test)} == {n_pixels}
    assert dataset.mean.dtype == np.float32
    np.testing.assert_allclose(dataset.mean, dataset.train.astype(float).mean(0), atol=1e-7)


def check_grey(dataset):
    assert not dataset.dynamic
    for array in (dataset.train, dataset.valid, dataset.test):
        assert array.dtype == np.float32
    assert ((dataset.train > 0) & (dataset.train < 1)).any()
    assert dataset.train.min() >= 0
    assert dataset.train.max() <= 1
    assert "grayscale" in dataset.description
    np.testing.assert_allclose(dataset.mean, dataset.train.astype(float).mean(0), atol=1e-7)


@pytest.fixture
def laid_out(small, tmp_path):
    for name in ("binarized_mnist", "mnist", "omniglot", "fashion_mnist"):
        small.write(tmp_path, name, zipped=name == "mnist")
    return small


BINARY = [name for name, task in TASKS.items() if not task.gray]
GREY = [name for name, task in TASKS.items() if task.gray]


@pytest.mark.parametrize("task", GREY)
def test_grey_tasks_keep_all_training_images_as_they_are(laid_out, tmp_path, task):
    dataset = load(task, tmp_path)
    check_grey(dataset)
    if task == "digits_grey":
        dynamic = load("digits", dynamic=True)
        np.testing.assert_array_equal(dataset.train, dynamic.train)
        return
    if task == "omni_grey":  # as in 2017's order, see below
        dynamic, fixed = load("omni", tmp_path, dynamic=True), load("omni", tmp_path)
        np.testing.assert_array_equal(dataset.train, dynamic.train)
        assert len(dataset.valid) == len(fixed.valid)
        assert np.all(fixed.valid[dataset.valid == 0] == 0)
        assert np.all(fixed.test[dataset.test == 0] == 0)
        return
    published = {"mnist": "mnist", "fashion_grey": "fashion_mnist"}[task]
    for part, images in (("train", dataset.train), ("test", dataset.test)):
        stored = laid_out.arrays[published, f"{part}_images"]
        np.testing.assert_allclose(images, stored.reshape(len(stored), -1) / 255, rtol=1e-6)
    assert len(dataset.valid) == 0
    with pytest.raises(RebarError, match="has grayscale images"):
        load(task, tmp_path, dynamic=True)


@pytest.mark.parametrize("task", BINARY)
@pytest.mark.parametrize("dynamic", [False, True])
def test_form(laid_out, tmp_path, task, dynamic):
    dataset = load(task, tmp_path, dynamic)
    assert dataset.name == task
    check_form(dataset, dynamic)
    assert ("binarized anew" in dataset.description) == dynamic


@pytest.mark.parametrize("task", BINARY)
def test_validation_and_test_images_are_the_same_in_both_modes(laid_out, tmp_path, task):
    fixed, dynamic = load(task, tmp_path, False), load(task, tmp_path, True)
    np.testing.assert_array_equal(fixed.valid, dynamic.valid)
    np.testing.assert_array_equal(fixed.test, dynamic.test)


@pytest.mark.parametrize("task", ["sbn", "sp"])
def test_binarized_mnist_is_used_as_it_lies(laid_out, tmp_path, task):
    dataset = load(task, tmp_path)
    for part in ("train", "valid", "test"):
        np.testing.assert_array_equal(
            getattr(dataset, part), laid_out.arrays["binarized_mnist", part]
        )


def test_dynamic_mnist_takes_the_first_grey_training_images(laid_out, tmp_path):
    images = laid_out.arrays["mnist", "train_images"].reshape(30, 784)
    train = load("sbn", tmp_path, dynamic=True).train
    np.testing.assert_allclose(train, images[:20] / 255, atol=1e-7)


def test_dynamic_mnist_says_that_validation_images_are_trained_on(laid_out, tmp_path):
    said = "validation images are also training images"
    assert said in load("sp", tmp_path, dynamic=True).description
    assert said not in load("sp", tmp_path).description


def test_omniglot_is_prepared_in_the_order_of_2017(laid_out, tmp_path):
    def upright(columns):
        return columns.T.astype("float32").reshape(-1, 28, 28).reshape(-1, 784, order="F")

    grey, grey_test = map(upright, laid_out.arrays["omniglot", "chardata"])
    draws = np.random.RandomState(5)
    binary = draws.rand(*grey.shape) < grey
    binary_test = draws.rand(*grey_test.shape) < grey_test
    order = np.random.RandomState(123).permutation(len(grey))
    fixed, dynamic = load("omni", tmp_path), load("omni", tmp_path, dynamic=True)
    np.testing.assert_array_equal(fixed.train, binary[order][:-5])
    np.testing.assert_array_equal(fixed.valid, binary[order][-5:])
    np.testing.assert_array_equal(fixed.test, binary_test)
    np.testing.assert_array_equal(dynamic.train, grey[order][:-5])


def test_fashion_splits_and_draws(laid_out, tmp_path):
    images = laid_out.arrays["fashion_mnist", "train_images"].reshape(30, 784)
    tests = laid_out.arrays["fashion_mnist", "test_images"].reshape(-1, 784)
    grey = np.concatenate([images, tests]).astype(np.float32) / np.float32(255)
    binary = np.random.RandomState(5).random_sample(grey.shape) < grey
    fixed, dynamic = load("fashion", tmp_path), load("fashion", tmp_path, dynamic=True)
    np.testing.assert_array_equal(fixed.train, binary[:24])
    np.testing.assert_array_equal(fixed.valid, binary[24:30])
    np.testing.assert_array_equal(fixed.test, binary[30:])
    np.testing.assert_array_equal(dynamic.train, grey[:24])


def test_digits_are_split_into_disjoint_parts_that_never_change():
    from sklearn.datasets import load_digits

    dataset = load("digits", "/not/used", dynamic=True)
    fixed = load("sp_digits", "/not/used")
    assert [len(a) for a in (fixed.train, fixed.valid, fixed.test)] == [1297, 250, 250]
    images = load_digits().data / 16
    order = np.random.RandomState(123).permutation(1797)
    assert len(set(order)) == 1797
    np.testing.assert_array_equal(dataset.train, images[order][:1297])
    parts = (fixed.train, fixed.valid, fixed.test)
    # What runs and their published figures rest on: it must never change.
    assert [hashlib.sha256(part.tobytes()).hexdigest()[:16] for part in parts] == DIGITS
    # A pixel that is black or white is so in the binary image as well.
    grey = images[order]
    binary = np.concatenate(parts)
    assert (binary[grey == 0] == 0).all()
    assert (binary[grey == 1] == 1).all()


def test_the_sets_of_the_digits_are_disjoint():
    from sklearn.datasets import load_digits

    dataset = load("digits", "/not/used", dynamic=True)
    fixed = load("sp_digits", "/not/used")
    assert sum(map(len, (fixed.train, fixed.valid, fixed.test))) == len(load_digits().data)
    draws = np.random.RandomState(5)
    images = (load_digits().data / 16)[np.random.RandomState(123).permutation(1797)]
    np.testing.assert_array_equal(dataset.train, images[:1297])
    others = (draws.random_sample(part.shape) < part for part in (images[:1547], images[1547:]))
    np.testing.assert_array_equal(
        np.concatenate([fixed.valid, fixed.test]), np.concatenate(list(others))[1297:]
    )


def test_binary_digits_are_on_where_they_are_bright():
    """Mean gray value minus mean binary value per pixel: five standard errors for each of 64."""
    gray = load("digits", "/not/used", dynamic=True).train
    binary = load("digits", "/not/used").train
    error = np.sqrt(np.sum(gray * (1 - gray), axis=0)) / len(gray)
    deviation = np.abs(gray.mean(axis=0, dtype=float) - binary.mean(axis=0))
    assert np.all(deviation <= 5 * error)


def test_arrays_cannot_be_changed_by_accident():
    dataset = load("digits", "/not/used")
    with pytest.raises(ValueError, match="read-only"):
        dataset.train[0, 0] = 1


def test_unknown_task():
    with pytest.raises(RebarError, match=r"unknown task 'minst'; .*sbn, .*did you mean mnist"):
        load("minst", "/not/used")


def test_a_missing_file_is_named_with_the_command(tmp_path):
    with pytest.raises(RebarError) as error:
        load("sbn", tmp_path)
    assert f"{tmp_path}/binarized_mnist/binarized_mnist_train.amat is missing" in str(error.value)
    command = f"python download_data.py --datasets=binarized_mnist --data_dir={tmp_path}"
    assert command in str(error.value)


AMAT = np.random.default_rng(1).integers(0, 2, (6, 784))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (amat_text(AMAT), "is not the published file: 9408 bytes with another sha256"),
        (amat_text(AMAT)[:-2], "9406 bytes with another sha256"),
        (b"", "0 bytes with another sha256"),
        (b"<html>log in first</html>", "25 bytes with another sha256"),
        (gzip.compress(amat_text(AMAT))[:-9], "is a damaged gzip"),
        (b"\x1f\x8bjunk", "is a damaged gzip"),
        (gzip.compress(bytes(10**6)), "10000 bytes with another sha256"),
    ],
)
def test_damaged_files(laid_out, tmp_path, monkeypatch, content, reason):
    monkeypatch.setattr(files, "_MAX_BYTES", 10_000)
    path = tmp_path / "binarized_mnist" / "binarized_mnist_valid.amat"
    path.write_bytes(content)
    with pytest.raises(RebarError, match=reason) as error:
        load("sbn", tmp_path)
    assert str(path) in str(error.value)
    assert "--datasets=binarized_mnist" in str(error.value)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b" \n"),
        lambda text: text.rstrip(b"\n"),
    ],
)
def test_amat_with_other_white_space_is_read(laid_out, tmp_path, rewrite):
    path = tmp_path / "binarized_mnist" / "binarized_mnist_valid.amat"
    path.write_bytes(rewrite(path.read_bytes()))
    np.testing.assert_array_equal(
        load("sbn", tmp_path).valid, laid_out.arrays["binarized_mnist", "valid"]
    )


def test_one_wrong_pixel_is_noticed(laid_out, tmp_path):
    path = tmp_path / "binarized_mnist" / "binarized_mnist_test.amat"
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with pytest.raises(RebarError, match=r"is not the published file: \d+ bytes with another"):
        load("sbn", tmp_path)


def test_the_sound_one_of_two_copies_is_read(laid_out, tmp_path):
    plain = tmp_path / "binarized_mnist" / "binarized_mnist_test.amat"
    (plain.parent / f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.write_bytes(b"0 1 0")
    np.testing.assert_array_equal(
        load("sbn", tmp_path).test, laid_out.arrays["binarized_mnist", "test"]
    )


GREY = np.random.default_rng(3).random((784, 18))
GREY_TEST = np.random.default_rng(4).random((784, 9))
NAN = np.where(np.arange(18) == 3, np.nan, GREY)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (mat_bytes(data=GREY, testdata=GREY_TEST)[:-100], "not a readable MATLAB 5 file"),
        (mat_bytes(data=GREY), r"real matrix 'testdata' of shape \(784, 9\)"),
        (mat_bytes(data=GREY[:-1], testdata=GREY_TEST), r"real matrix 'data'"),
        (mat_bytes(data=GREY.astype(int), testdata=GREY_TEST), "real matrix 'data'"),
        (mat_bytes(data=GREY * 1j, testdata=GREY_TEST), "real matrix 'data'"),
        (mat_bytes(data=GREY * 1.5, testdata=GREY_TEST), r"outside \[0, 1\] in 'data'"),
        (mat_bytes(data=GREY, testdata=-GREY_TEST), r"outside \[0, 1\] in 'testdata'"),
        (mat_bytes(data=NAN, testdata=GREY_TEST), r"outside \[0, 1\]"),
        (b"MATLAB 7.3 MAT-file" + bytes(200), "not a readable MATLAB 5 file"),
    ],
)
def test_damaged_mat(laid_out, tmp_path, content, reason):
    (tmp_path / "omniglot" / "chardata.mat").write_bytes(content)
    with pytest.raises(RebarError, match=reason):
        load("omni", tmp_path)


def test_another_omniglot_is_used_and_said_so(laid_out, tmp_path):
    assert "not comparable" not in load("omni", tmp_path).description
    other = mat_bytes(compress=False, data=GREY.astype(np.float32), testdata=GREY_TEST)
    (tmp_path / "omniglot" / "chardata.mat").write_bytes(other)
    dataset = load("omni", tmp_path)
    assert "not comparable with published" in dataset.description
    assert dataset.train.shape == (13, 784)


def test_git_blob_digest():
    # `printf hello | git hash-object --stdin`
    expected = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"
    assert files.digest("git-blob-sha1", b"hello") == expected
