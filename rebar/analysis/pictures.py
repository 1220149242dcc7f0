"""Pictures of a trained model: samples, and test images with their reconstructions.

    generative models    ancestral samples; test images, each above its reconstruction
    conditional models   one row per image: the image, its upper half, the mean of many samples of
                         the lower half, some of these samples

A picture has one or more panels, a panel is a grid of grayscale images [h, w] in [0, 1], 1 is ink.
"""

import gc
import math
import os
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rebar import noise, styles
from rebar.errors import RebarError
from rebar.runs.files import write_file
from rebar.types import capability

SUFFIXES = (".png", ".pdf")
_HEIGHT, _ROW = 5.0, 0.6
"""Minimum height of a grid and of one of its rows, in inches."""
_INK = matplotlib.colormaps["gray_r"].with_extremes(bad="#c8d4e4")
"""Colors of the values of a mosaic; NaN is the frame."""
_SAMPLES, _PAIRS = 0, 1
"""Positions in the noise stream "analysis"."""


class Panel(NamedTuple):
    """One grid of images.

    Attributes:
      name: one word, for TensorBoard.
      title: title of the grid.
      images: [rows, columns, h, w] in [0, 1]; NaN for empty pixels.
      rows: row labels, or none.
      columns: column labels, or none.
    """

    name: str
    title: str
    images: np.ndarray
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def panels(model, images, image_shape: tuple[int, int], seed: int = 0) -> list[Panel]:
    """Compute the panels of a model.

    Args:
      model: one of `rebar.models`.
      images: [n, D] test images, of which some are drawn.
      image_shape: (h, w) with h * w = D.
      seed: seed of the samples.

    Raises:
      RebarError: the images do not have the size of the model.
    """
    images = np.asarray(images)
    require_drawable(model, images)
    pixels = len(model.input_mean)
    if images.ndim != 2 or images.shape[1] != pixels:
        raise RebarError(
            f"images of shape {images.shape}: expected [n, {pixels}], as the model has "
            f"{pixels} pixels; give images of the task that it was trained on"
        )
    if capability(model, "half"):
        return [completions(model, _spread(images, 12), image_shape, seed)]
    return [
        samples(model, image_shape, seed),
        reconstructions(model, _spread(images, 36), image_shape, seed),
    ]


def require_drawable(model, images) -> None:
    """Raise RebarError if there are no test images, or the model has no decoder to draw."""
    if not len(images):
        raise RebarError("no test images to draw; add some to the data set")
    if missing := [name for name in ("sample", "reconstruct") if not hasattr(model, name)]:
        source = getattr(model, "source", model)
        raise RebarError(
            f"{type(source).__name__} cannot be drawn: it has no {' and no '.join(missing)}; add "
            "sample(noise) and reconstruct(x, noise), which return pixel probabilities [N, D]"
        )


def samples(model, image_shape, seed: int = 0, rows: int = 6, columns: int = 12) -> Panel:
    """Pixel probabilities of rows * columns ancestral samples of a generative model."""
    probabilities = model.sample(_noise(model, seed, _SAMPLES, rows * columns))
    grid = np.reshape(probabilities, (rows, columns, *image_shape))
    return Panel("samples", "Samples of the model (pixel probabilities)", grid)


def reconstructions(model, images, image_shape, seed: int = 0, columns: int = 12) -> Panel:
    """Test images [n, D], each above its pixel probabilities given one posterior sample."""
    n, rows = len(images), math.ceil(len(images) / columns)
    probabilities = model.reconstruct(images, _noise(model, seed, _PAIRS, n))
    grid = np.full((rows * columns, 2, *image_shape), np.nan)
    grid[:n, 0] = images.reshape(n, *image_shape)
    grid[:n, 1] = np.reshape(probabilities, (n, *image_shape))
    grid = grid.reshape(rows, columns, 2, *image_shape).swapaxes(1, 2)
    return Panel(
        "reconstructions",
        "Test images, each above its reconstruction from one posterior sample",
        grid.reshape(2 * rows, columns, *image_shape),
        rows=("image", "reconstr.") * rows,
    )


def completions(
    model, images, image_shape, seed: int = 0, n_samples: int = 100, n_drawn: int = 9
) -> Panel:
    """One row per test image [n, D]: the image, its upper half, completions of the lower half.

    These are the mean of n_samples samples of the lower half given the upper one, an estimate of
    P(pixel = 1 | upper half), and the first n_drawn of them. Samples are pixel probabilities given
    the latent units.
    """
    n, pixels = images.shape
    half = pixels // 2
    lower = model.sample(_noise(model, seed, _SAMPLES, n, n_samples), x=images)
    lower = np.reshape(lower, (n_samples, n, half)).swapaxes(0, 1)
    grid = np.full((n, 3 + n_drawn, pixels), np.nan)
    grid[:, 0] = images
    grid[:, 1:, :half] = images[:, np.newaxis, :half]
    grid[:, 2, half:] = lower.mean(axis=1)
    grid[:, 3:, half:] = lower[:, :n_drawn]
    return Panel(
        "completions",
        f"Test images, their upper halves, and completions:\nthe mean of {n_samples} samples of "
        f"the lower half, and {n_drawn} of them",
        grid.reshape(n, 3 + n_drawn, *image_shape),
        columns=("image", "given", "mean", *(str(i + 1) for i in range(n_drawn))),
    )


def _spread(images, count):
    """Evenly spaced images: the test images of MNIST are sorted by digit."""
    return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]


def _noise(model, seed, position, batch, n_samples=1) -> noise.Noise:
    key = noise.key(seed, "analysis", position)
    return noise.latents(key, n_samples, batch, model.n_units, model.compute_dtype)


def caption(trained) -> str:
    """Model, task, stochastic layers and step of a `rebar.experiment.Trained`."""
    h = trained.hparams
    return f"{h.model}, task={h.task}, {h.architecture}, after step {trained.step}"


def mosaic(images: np.ndarray) -> np.ndarray:
    """[rows, columns, h, w] as one image, with a frame of NaN one pixel wide around each."""
    framed = np.pad(images, ((0, 0), (0, 0), (1, 0), (1, 0)), constant_values=np.nan)
    rows, columns, h, w = framed.shape
    joined = framed.swapaxes(1, 2).reshape(rows * h, columns * w)
    return np.pad(joined, ((0, 1), (0, 1)), constant_values=np.nan)


def figure(panels: list[Panel], title: str = "") -> Figure:
    """The panels side by side: ink black, pixels unsmoothed."""
    mosaics = [mosaic(panel.images) for panel in panels]
    widths = [m.shape[1] / m.shape[0] for m in mosaics]
    height = max(_HEIGHT, *(_ROW * len(panel.images) for panel in panels))
    drawing = Figure(figsize=(height * sum(widths) + 0.4, height + 0.9), layout="constrained")
    axes = drawing.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for axis, panel, values in zip(axes, panels, mosaics, strict=True):
        h, w = (pixels + 1 for pixels in panel.images.shape[2:])
        axis.imshow(values, cmap=_INK, vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(panel.title, fontsize=10)
        axis.set_frame_on(False)
        axis.tick_params(length=0, labelsize=7, labeltop=True, labelbottom=False)
        axis.set_yticks([h * (i + 0.5) for i in range(len(panel.rows))], panel.rows)
        axis.set_xticks([w * (i + 0.5) for i in range(len(panel.columns))], panel.columns)
    drawing.suptitle(title, fontsize=10, wrap=True)
    return drawing


def suffix(path: str | os.PathLike) -> str:
    """The suffix of a picture's file. Raises RebarError for an unsupported one."""
    ending = Path(path).suffix.lower()
    if ending not in SUFFIXES:
        raise RebarError(
            f"cannot write a picture to {os.fspath(path)!r}: its name must end in "
            f"{' or '.join(SUFFIXES)}, e.g. samples.png"
        )
    return ending


def save(drawing: Figure, path: str | os.PathLike) -> None:
    """Write a figure atomically, as PNG or PDF.

    Raises:
      RebarError: an unsupported suffix, or the file cannot be written.
    """
    write_file(path, styles.render(drawing, suffix(path)[1:], dpi=120))


def draw(trained, data, path: str | os.PathLike, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw a trained model into a file.

    Args:
      trained: a `rebar.experiment.Trained`.
      data: its data set, of which test images are drawn.
      path: see `save`.
      seed: see `panels`.

    Returns:
      The panels as images [height, width, 3] in uint8, by their tags in TensorBoard.
    """
    drawn = panels(trained.model, data.test, data.image_shape, seed)
    save(figure(drawn, caption(trained)), path)
    gc.collect(1)  # a figure has reference cycles and some 3 MB
    return {f"pictures/{p.name}": _INK(mosaic(p.images), bytes=True)[..., :3] for p in drawn}


def draw_step(trained, data, step: int) -> dict[str, np.ndarray]:
    """`draw` a model that is being trained into the folder of its run."""
    path = trained.folder / "pictures" / f"step-{step:07d}.png"
    return draw(trained._replace(step=step), data, path)
