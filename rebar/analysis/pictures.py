"""Pictures of a trained model: samples, and test images beside their reconstructions.

A picture is one or more panels, a panel is a grid of grey images. What a grid holds is computed
here from a model, an image being an array [h, w] of values in [0, 1], 1 the ink:

    generative models    ancestral samples; test images, each over its reconstruction
    conditional models   a row an image: the image, its given upper half, samples of the lower half

matplotlib is imported where a figure is made, and never by way of pyplot: no display is needed.
"""

import io
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rebar import noise
from rebar.errors import RebarError
from rebar.training.files import write_file

SUFFIXES = (".png", ".pdf")
_HEIGHT = 5.0
_FRAME = "#c8d4e4"
_SAMPLES, _PAIRS = 0, 1
"""Positions in the noise stream "analysis"."""


class Panel(NamedTuple):
    """One grid of images.

    Attributes:
      title: over the grid.
      images: [rows, columns, h, w] in [0, 1]; NaN where nothing is drawn.
    """

    title: str
    images: np.ndarray


def panels(model, images, image_shape: tuple[int, int], seed: int = 0) -> list[Panel]:
    """What to draw of a model.

    Args:
      model: one of `rebar.models`.
      images: [n, D] test images in {0, 1}, of which some are drawn.
      image_shape: (h, w) with h * w = D.
      seed: of the samples.

    Raises:
      RebarError: the images are not of the size of the model.
    """
    images = np.asarray(images)
    if images.ndim != 2 or images.shape[1] != model.n_input or not len(images):
        raise RebarError(
            f"the model is of images of {model.n_input} pixels, given: an array of shape "
            f"{images.shape}; give images [n, {model.n_input}] of the task that it was trained on"
        )
    if hasattr(model, "half"):
        return [completions(model, _spread(images, 12), image_shape, seed)]
    return [
        samples(model, image_shape, seed),
        reconstructions(model, _spread(images, 36), image_shape, seed),
    ]


def samples(model, image_shape, seed: int = 0, rows: int = 6, columns: int = 12) -> Panel:
    """Pixel probabilities of rows * columns ancestral samples of a generative model."""
    probabilities = model.sample(_noise(model, seed, _SAMPLES, rows * columns))
    grid = np.reshape(probabilities, (rows, columns, *image_shape))
    return Panel("Samples of the model (pixel probabilities)", grid)


def reconstructions(model, images, image_shape, seed: int = 0, columns: int = 12) -> Panel:
    """Test images [n, D], each over its pixel probabilities given one posterior sample."""
    probabilities = model.reconstruct(images, _noise(model, seed, _PAIRS, len(images)))
    rows = math.ceil(len(images) / columns)
    grid = np.full((2 * rows, columns, *image_shape), np.nan)
    for i, (image, probability) in enumerate(zip(images, np.asarray(probabilities), strict=True)):
        row, column = divmod(i, columns)
        grid[2 * row, column] = image.reshape(image_shape)
        grid[2 * row + 1, column] = probability.reshape(image_shape)
    return Panel("Test images, each over its reconstruction", grid)


def completions(model, images, image_shape, seed: int = 0, n_samples: int = 10) -> Panel:
    """A row a test image [n, D]: the image, its upper half, n_samples of the lower half given it.

    Samples are pixel probabilities under the upper half as it was given.
    """
    n, pixels = images.shape
    half = pixels // 2
    lower = model.sample(_noise(model, seed, _SAMPLES, n, n_samples), x=images)
    grid = np.full((n, 2 + n_samples, pixels), np.nan)
    grid[:, 0] = images
    grid[:, 1:, :half] = images[:, np.newaxis, :half]
    grid[:, 2:, half:] = np.reshape(lower, (n_samples, n, half)).swapaxes(0, 1)
    title = "Test image, its upper half, and samples of the lower half given the upper"
    return Panel(title, grid.reshape(n, 2 + n_samples, *image_shape))


def _spread(images, count):
    """`count` of the images, evenly spaced: the test images of MNIST are sorted by digit."""
    return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]


def _noise(model, seed, position, batch, n_samples=1) -> noise.Noise:
    key = noise.key(seed, "analysis", position)
    return noise.latents(key, n_samples, batch, model.n_units, model.compute_dtype)


def mosaic(images: np.ndarray) -> np.ndarray:
    """[rows, columns, h, w] as one image, with a frame of NaN one pixel wide around each."""
    rows, columns, h, w = images.shape
    framed = np.full((rows, h + 1, columns, w + 1), np.nan)
    framed[:, 1:, :, 1:] = images.swapaxes(1, 2)
    return np.pad(
        framed.reshape(rows * (h + 1), columns * (w + 1)), ((0, 1), (0, 1)), constant_values=np.nan
    )


def figure(panels: list[Panel], title: str = ""):
    """The panels side by side as a matplotlib Figure: ink black, unsmoothed.

    Raises:
      RebarError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise RebarError("pictures need matplotlib; type: pip install matplotlib") from None
    mosaics = [mosaic(panel.images) for panel in panels]
    widths = [m.shape[1] / m.shape[0] for m in mosaics]
    made = Figure(figsize=(_HEIGHT * sum(widths) + 0.4, _HEIGHT + 0.9), layout="constrained")
    axes = made.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    colours = matplotlib.colormaps["gray_r"].with_extremes(bad=_FRAME)
    for axis, panel, values in zip(axes, panels, mosaics, strict=True):
        axis.imshow(values, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(panel.title, fontsize=10)
        axis.axis("off")
    made.suptitle(title, fontsize=10, wrap=True)
    return made


def suffix(path: str | os.PathLike) -> str:
    """The suffix of a picture's file. Raises RebarError for one that cannot be written."""
    found = Path(path).suffix.lower()
    if found not in SUFFIXES:
        raise RebarError(
            f"cannot write a picture to {os.fspath(path)!r}: its name must end in "
            f"{' or '.join(SUFFIXES)}, e.g. samples.png"
        )
    return found


def save(figure, path: str | os.PathLike) -> None:
    """Write a figure as PNG or PDF, by the suffix of the path, whole or not at all.

    Raises:
      RebarError: another suffix, or the file cannot be written.
    """
    content = io.BytesIO()
    figure.savefig(content, format=suffix(path)[1:], dpi=200)
    try:
        write_file(path, content.getvalue())
    except RebarError as error:
        # Its own message speaks of the folder of a run.
        raise RebarError(
            f"cannot write the picture {os.fspath(path)!r}: {error.__cause__}; give another file"
        ) from error
