"""Training, validation and test images of a task."""

import dataclasses
import functools
import hashlib
import math
import os
from pathlib import Path

import numpy as np

from rebar.data import files
from rebar.data.download import missing_error
from rebar.data.images import check_range, images_of, is_binary
from rebar.data.sources import DATA_SETS, DataSet, task_files, task_of
from rebar.errors import RebarError
from rebar.plugins import with_plugins

BINARIZE_SEED = 5
_PERMUTE_SEED = 123
_N_TEST_DIGITS = 250
_ROWS_AT_ONCE = 5000


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training, validation and test images of a task; n images of D = h * w pixels, row by row.

    Attributes:
      name: the task.
      train: [n, D]; uint8 of 0 and 1, or grayscale: float32 in [0, 1].
      valid: [n, D], like `train`; n may be 0.
      test: [n, D], like `train`.
      mean: [D] float32, the mean of `train`.
      image_shape: (h, w).
      description: which data and which binarization, in words.
      dynamic: whether training images are to be binarized anew whenever they are used.
      custom: user-defined data: resuming a run compares the description, with its digest.

    Raises RebarError if images, mean and shape do not fit together, or pixels are not in [0, 1].
    """

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    mean: np.ndarray
    image_shape: tuple[int, int]
    description: str
    dynamic: bool = False
    custom: bool = False

    def __post_init__(self):
        if not isinstance(self.dynamic, bool):
            raise RebarError(f"dynamic={self.dynamic!r}: must be True or False")
        if len(self.image_shape) != 2 or any(
            not isinstance(n, int | np.integer) or n < 1 for n in self.image_shape
        ):
            raise RebarError(f"image_shape={self.image_shape!r}: must be two positive integers")
        pixels = int(np.prod(self.image_shape))
        for split in ("train", "valid", "test"):
            images_of(getattr(self, split), split, pixels)
        if not len(self.train):
            raise RebarError(
                f"the data set {self.name!r} has no training images; give at least one"
            )
        mean = np.asarray(self.mean)
        if mean.shape != (pixels,):
            raise RebarError(f"mean has shape {list(mean.shape)}: must be [{pixels}]")
        check_range(mean, "mean")

    @functools.cached_property
    def grayscale(self) -> bool:
        """True if a model is trained or evaluated on pixels between 0 and 1."""
        trained = () if self.dynamic else (self.train,)
        return not all(map(is_binary, (*trained, self.valid, self.test)))

    @functools.cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 of all images and their shape."""
        content = hashlib.sha256(repr((*map(int, self.image_shape),)).encode())
        for images in (self.train, self.valid, self.test):
            content.update(f"{images.dtype.str}{images.shape}".encode())
            content.update(np.ascontiguousarray(images))
        return content.hexdigest()[:16]


def load(task: str, data_dir: str | os.PathLike = "data", dynamic: bool = False) -> Dataset:
    """Load the data of a task from DATA_DIR/DATA SET/FILE.

    Args:
      task: one of TASKS, or the path of an NPZ file, see `from_file`.
      data_dir: the data folder; not used for tasks that need no download.
      dynamic: give grayscale training images in [0, 1], to be binarized when used. Validation
        and test images are binarized once, by the same draws, in both modes. For sbn and sp, most
        of the fixed validation images are binarizations of training images, as in 2017: compare
        test bounds.
    """
    entry = with_plugins(lambda: task_of(task))
    if entry.is_custom:
        from rebar.data import custom

        return custom.load(task, data_dir, dynamic)
    gray, data_set = entry.gray, DATA_SETS[entry.data_set]
    if dynamic and gray:
        raise RebarError(
            f"task {task!r} has grayscale images: they are not binarized; remove dynamic_b=true"
        )
    data_dir, arrays, note = Path(os.path.expanduser(data_dir)), {}, ""
    for source, role in task_files(task, dynamic):
        file = source.files[role]
        found, unusable = files.find(file, source.folders(data_dir))
        if found is None:
            raise missing_error(source, file, data_dir, unusable)
        arrays[role] = files.parse(file, found.content)
        note = "" if found.published else f" (NOTE: {source.notice})"
    if data_set.name == "binarized_mnist":
        valid, test = arrays["valid"], arrays["test"]
        description = "MNIST in the fixed binarization of Salakhutdinov, as published by Larochelle"
        if dynamic:
            train = _unit_interval(arrays["train_images"][: data_set.files["train"].shape[0]])
            # The published split of 60000 images into 50000 and 10000 is another, a random one.
            description += (
                " (about 5 in 6 validation images are also training images, in grayscale)"
            )
        else:
            train = arrays["train"]
    else:
        images, test = _gray_images(data_set.name, arrays)
        # The ReinMax papers train on all images of MNIST and Fashion-MNIST.
        n_valid = 0 if gray and "train_images" in data_set.files else data_set.n_valid
        n_train = len(images) - n_valid
        if gray:
            train, valid = _split(images, n_train, data_set)
            description = f"grayscale {data_set.title}, {n_train} training images{note}"
        else:
            train, valid, test = _binarized(images, test, n_train, data_set, dynamic)
            description = f"{data_set.title}, binarized once with seed {BINARIZE_SEED}{note}"
    if dynamic:
        description += "; training images are binarized anew at each use"
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    for array in (train, valid, test, mean):
        array.setflags(write=False)
    side = math.isqrt(len(mean))
    return Dataset(task, train, valid, test, mean, (side, side), description, dynamic)


def binarize(gray: np.ndarray, stream: np.random.RandomState) -> np.ndarray:
    """Draw binary images, uint8 [n, D], with the pixels of `gray` [n, D] as probabilities.

    A pixel is 1 where the stream's next uniform (row by row) is below its gray value.
    """
    binary = np.empty(gray.shape, np.uint8)
    for start in range(0, len(gray), _ROWS_AT_ONCE):  # the draws of all rows would be 8 n D bytes
        rows = gray[start : start + _ROWS_AT_ONCE]
        binary[start : start + _ROWS_AT_ONCE] = stream.random_sample(rows.shape) < rows
    return binary


def _binarized(gray, gray_test, n_train: int, data_set: DataSet, dynamic: bool):
    """Training, validation and test images, binarized in this order from one stream, then split.

    Unlike 2017, validation and test images are binarized in dynamic mode, too.
    """
    from rebar import noise

    stream = noise.numpy_stream(BINARIZE_SEED)
    binary, test = binarize(gray, stream), binarize(gray_test, stream)
    train, valid = _split(binary, n_train, data_set)
    return _split(gray, n_train, data_set)[0] if dynamic else train, valid, test


def _split(images, n_train: int, data_set: DataSet) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation images; those of Omniglot are permuted, as in 2017."""
    if data_set.name == "omniglot":
        from rebar import noise

        images = images[noise.numpy_stream(_PERMUTE_SEED).permutation(len(images))]
    return images[:n_train], images[n_train:]


def _gray_images(name: str, arrays: dict) -> tuple[np.ndarray, np.ndarray]:
    """Grayscale images for training and validation, and those for test; of a data set's arrays."""
    if name == "digits":
        images = _shuffled_digits()
        return images[:-_N_TEST_DIGITS], images[-_N_TEST_DIGITS:]
    if name == "omniglot":
        data, testdata = arrays["chardata"]
        return _upright(data), _upright(testdata)
    return _unit_interval(arrays["train_images"]), _unit_interval(arrays["test_images"])


def _unit_interval(images: np.ndarray, white: int = 255) -> np.ndarray:
    """Grayscale images [n, h, w] of 0 ... white as float32 [n, h * w] in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(white)


def _upright(columns: np.ndarray) -> np.ndarray:
    """Images that are columns [784, n], pixels column by column, as float32 rows [n, 784]."""
    images = columns.T.astype(np.float32).reshape(-1, 28, 28)
    return np.ascontiguousarray(images.transpose(0, 2, 1)).reshape(len(images), -1)


def _shuffled_digits() -> np.ndarray:
    """Grayscale digits, float32 [n, 64] in [0, 1], in a fixed order."""
    from sklearn.datasets import load_digits

    from rebar import noise

    images = load_digits().images
    order = noise.numpy_stream(_PERMUTE_SEED).permutation(len(images))
    return _unit_interval(images[order], white=16)
