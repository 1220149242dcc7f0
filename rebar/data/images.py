"""Validation of images where they enter: type, shape and range of values."""

from typing import Any

import numpy as np

from rebar.errors import RebarError


def images_of(value: Any, name: str, n_pixels: int | None = None) -> np.ndarray:
    """Return an array-like as images [n, D] of numbers in [0, 1], D = `n_pixels` if given.

    Raises RebarError with `name`, the values or shape seen, and how to convert them.
    """
    try:
        images = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise RebarError(f"{name}: must be an array [n, pixels]; {error}") from None
    width = "pixels" if n_pixels is None else n_pixels
    if images.dtype.kind not in "buif":
        raise RebarError(f"{name} has dtype {images.dtype}: must be numbers; convert to float32")
    if images.ndim != 2 or images.shape[1] != (n_pixels or images.shape[1]):
        raise RebarError(
            f"{name} has shape {list(images.shape)}: must be [n, {width}]; flatten images with "
            "images.reshape(len(images), -1)"
        )
    check_range(images, name)
    return images


def check_range(values: np.ndarray, name: str) -> None:
    """Raise RebarError if numbers are not in [0, 1]; an empty array is valid."""
    if not values.size or (values.min() >= 0 and values.max() <= 1):
        return
    low, high = values.min(), values.max()
    fix = "clip or rescale them"
    if not np.isfinite(low) or not np.isfinite(high):
        fix = "remove what is not finite"
    elif low >= 0 and 1 < high <= 255:
        fix = "divide by 255"
    elif -1 <= low < 0 and high <= 1:
        fix = "rescale with (images + 1) / 2"
    raise RebarError(f"{name} has values from {low:g} to {high:g}: must be in [0, 1]; {fix}")


def check_binary(images: np.ndarray, name: str, model: str) -> None:
    """Raise RebarError if not all pixels are 0 or 1."""
    if not is_binary(np.asarray(images)):
        raise RebarError(
            f"{name} is grayscale: must be binary for {model}; binarize it, e.g. {name} > 0.5"
        )


def is_binary(images: np.ndarray) -> bool:
    """Return True if all pixels are 0 or 1."""
    if images.dtype.kind == "b":
        return True
    return bool(((images == 0) | (images == 1)).all())
