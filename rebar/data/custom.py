"""User-defined data: arrays, NPZ files and registered loaders."""

import contextlib
import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from rebar import plugins
from rebar.data.datasets import BINARIZE_SEED, Dataset, binarize
from rebar.data.images import images_of, is_binary
from rebar.data.sources import DATA_SETS, TASKS, Task, is_file, task_of
from rebar.errors import RebarError, did_you_mean, unknown

KINDS = ("binary", "gray")
SPLITS = ("train", "valid", "test")
_KEYS = (*SPLITS, "kind", "image_shape")
_NAME = re.compile(r"[A-Za-z0-9_.+-]+")


def from_arrays(
    train: Any,
    valid: Any = None,
    test: Any = None,
    kind: str = "binary",
    image_shape: tuple[int, int] | None = None,
    name: str = "arrays",
) -> Dataset:
    """Return a data set of images in memory.

    Args:
      train: images [n, D], [n, h, w] or [n, h, w, 1] in [0, 1]: an array, a sequence, or a finite
        `tf.data.Dataset` of images or of batches of images, which is read once. Apply unbatch() to
        batches of a static size (drop_remainder=True): they are read as images.
      valid, test: like `train`; None: no such images.
      kind: "binary" for pixels of 0 and 1, or "gray" for pixels in [0, 1].
      image_shape: (h, w) of images [n, D]; by default a square, or (1, D) if D is not a square.
      name: name in messages and records.

    Raises:
      RebarError: arrays of an unsupported shape or type, pixels that are invalid for `kind`, or an
        unknown `kind`.
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    images = {}
    for split, value in zip(SPLITS, (train, valid, test), strict=True):
        if value is None and split != "train":
            continue
        value, shape = _rows(value, split)
        pixels = images["train"].shape[1] if images else None
        images[split] = images_of(value, split, pixels)
        image_shape = image_shape or shape
        if kind == "binary" and not is_binary(images[split]):
            raise RebarError(
                f"{split} is grayscale: must be binary; binarize it, e.g. {split} > 0.5, or use "
                "kind='gray'"
            )
    pixels = images["train"].shape[1]
    if image_shape is None:
        side = round(pixels**0.5)
        image_shape = (side, side) if side**2 == pixels else (1, pixels)
    image_shape = tuple(image_shape)
    if len(image_shape) != 2 or np.prod(image_shape) != pixels:
        raise RebarError(
            f"image_shape={image_shape!r}: must be two integers with the product {pixels}, the "
            "pixels per image"
        )
    dtype = np.uint8 if kind == "binary" else np.float32
    images = {s: images.get(s, np.zeros([0, pixels])).astype(dtype) for s in SPLITS}
    return _described(Dataset(name, **images, **_about(images["train"], image_shape)))


def _about(train, image_shape) -> dict[str, Any]:
    return {
        "mean": train.mean(axis=0, dtype=np.float64).astype(np.float32) if len(train) else train,
        "image_shape": tuple(map(int, image_shape)),
        "description": "",
    }


def _rows(value, split):
    """Return images [n, D], and their shape (h, w) if they have one."""
    if hasattr(value, "as_numpy_iterator"):
        value = _elements(value, split)
    with contextlib.suppress(TypeError, ValueError):  # reported by images_of
        value = np.asarray(value)
        if value.ndim == 4 and value.shape[3] == 1:
            value = value[..., 0]
        if value.ndim == 3 and value.dtype != object:
            return value.reshape(len(value), -1), value.shape[1:]
    return value, None


def _elements(dataset, split):
    """Return all images of a `tf.data.Dataset`."""
    shape = getattr(dataset.element_spec, "shape", None)
    if shape is None or shape.rank is None:
        raise RebarError(
            f"{split}: elements of the tf.data.Dataset must be tensors of images; use e.g. "
            "dataset.map(lambda image, label: image)"
        )
    if int(dataset.cardinality()) == -1:
        raise RebarError(f"{split}: the tf.data.Dataset is infinite; remove repeat()")
    elements = [*dataset.as_numpy_iterator()]
    is_batched = shape.rank > 1 and shape[0] is None
    return (np.concatenate if is_batched and elements else np.array)(elements)


def from_file(path: str) -> Dataset:
    """Return the data set of an NPZ file, the value of `task=path/to/file.npz`.

    The file has arrays train, valid and test, and may have kind and image_shape, which are the
    arguments of `from_arrays`. Pickled objects are refused.

    Raises:
      RebarError: the file is missing or damaged, or see `from_arrays`.
    """
    try:
        with open(path, "rb") as file:
            arrays = dict(np.load(file, allow_pickle=False))
    except OSError as error:
        raise RebarError(f"task={path}: {error.strerror or error}; pass an NPZ file") from None
    except Exception as error:  # damage surfaces as nearly any type
        reason = "has pickled objects" if "pickle" in str(error) else f"is damaged, {error}"
        raise RebarError(
            f"task={path}: {reason}; write arrays of numbers by numpy.savez(path, train=..., "
            "valid=..., test=...)"
        ) from None
    for name in arrays:
        if name not in _KEYS:
            near = did_you_mean(name, _KEYS)
            raise RebarError(
                f"task={path}: unknown key {name!r}; use only {', '.join(_KEYS)}{near}"
            )
    if "train" not in arrays:
        raise RebarError(f"task={path}: has no key 'train'; add the training images")
    try:
        kind = str(arrays.pop("kind", "binary"))
        shape = arrays.pop("image_shape", None)
        shape = None if shape is None else tuple(shape.ravel().tolist())
        return from_arrays(**arrays, kind=kind, image_shape=shape, name=path)
    except RebarError as error:
        raise RebarError(f"task={path}: {error}") from None


def register_task(name: str, loader: Callable[..., Dataset], conditional: bool = False) -> None:
    """Register a data set as `task=name`.

        rebar.register_task("mine", lambda: rebar.data.from_arrays(train, valid, test))

    Args:
      name: value of `task`.
      loader: function that returns a `Dataset`. It may have the arguments data_dir (the data
        folder) and dynamic (the value of dynamic_b).
      conditional: predict the lower half of an image from its upper half.

    Raises:
      RebarError: a registered or invalid name, or a loader that is not a function.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or is_file(name):
        raise RebarError(
            f"{name!r}: invalid name of a task; use letters, digits and _ - . +, without .npz at "
            "the end"
        )
    if name in {*TASKS, *DATA_SETS}:
        raise RebarError(f"task {name!r}: already registered; choose another name")
    if not callable(loader):
        raise RebarError(
            f"loader of {name}: is a {type(loader).__name__}; pass a function that returns a "
            "data set, e.g. lambda: dataset"
        )
    module = plugins.calling_module()
    TASKS[name] = Task(name, conditional, loader=loader, module=module)


def load(task: str, data_dir: Any, dynamic: bool) -> Dataset:
    """Return the data of an NPZ file or a registered task; see `rebar.data.load`."""
    loader = task_of(task).loader
    dataset = from_file(task) if loader is None else _loaded(task, loader, data_dir, dynamic)
    if dynamic and not dataset.dynamic:
        if is_binary(dataset.train):
            raise RebarError(
                f"dynamic_b=true: the training images of task={task} are binary; remove it, or "
                "pass grayscale images"
            )
        from rebar import noise

        stream = noise.numpy_stream(BINARIZE_SEED)
        binary = {split: binarize(getattr(dataset, split), stream) for split in SPLITS[1:]}
        dataset = dataclasses.replace(dataset, dynamic=True, **binary)
    return _described(dataclasses.replace(dataset, name=task))


def _loaded(task, loader, data_dir, dynamic):
    """Return the data set of a loader, called with the arguments that it has."""
    arguments = {"data_dir": data_dir, "dynamic": dynamic}
    dataset = plugins.call(loader, arguments, f"loader of task={task}")
    if not isinstance(dataset, Dataset):
        raise RebarError(
            f"loader of task={task} returned {type(dataset).__name__}; return a "
            "rebar.data.Dataset, e.g. by rebar.data.from_arrays"
        )
    if dataset.dynamic and not dynamic:
        raise RebarError(f"task={task} binarizes training images at each use; add dynamic_b=true")
    return dataset


def _described(dataset: Dataset) -> Dataset:
    """Return a data set whose description contains numbers of images and their digest."""
    counts = ", ".join(f"{len(getattr(dataset, split))} {split}" for split in SPLITS)
    h, w = dataset.image_shape
    kind = "grayscale" if dataset.grayscale else "binary"
    if dataset.dynamic:
        kind = "training images binarized anew at each use"
    for array in (dataset.train, dataset.valid, dataset.test, dataset.mean):
        array.setflags(write=False)
    text = f"{dataset.name}: {counts} images of {h}x{w} pixels, {kind}, digest {dataset.digest}"
    return dataclasses.replace(dataset, description=text, custom=True)
