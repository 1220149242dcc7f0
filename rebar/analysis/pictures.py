"""Pictures of a trained model: samples, and test images beside their reconstructions.

A picture is one or more panels, a panel is a grid of grayscale images. What a grid holds is
computed here from a model, an image being an array [h, w] of values in [0, 1], 1 the ink:

    generative models    ancestral samples; test images, each over its reconstruction
    conditional models   a row an image: the image, its given upper half, the mean of many samples
                         of the lower half, some of these samples

matplotlib is imported where a figure is made, and never by way of pyplot: no display is needed.
"""

import gc
import io
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rebar import noise
from rebar.errors import RebarError
from rebar.runs.files import write_file

SUFFIXES = (".png", ".pdf")
_HEIGHT, _ROW = 5.0, 0.6
"""Least height of a grid and of a row of it, in inches."""
_FRAME = "#c8d4e4"
_DPI = 120
_SAMPLES, _PAIRS = 0, 1
"""Positions in the noise stream "analysis"."""


class Panel(NamedTuple):
    """One grid of images.

    Attributes:
      name: one word, by which TensorBoard lists it.
      title: over the grid.
      images: [rows, columns, h, w] in [0, 1]; NaN where nothing is drawn.
      rows: a label for each row, or none at all.
      columns: a label for each column, or none at all.
    """

    name: str
    title: str
    images: np.ndarray
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


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
    return Panel("samples", "Samples of the model (pixel probabilities)", grid)


def reconstructions(model, images, image_shape, seed: int = 0, columns: int = 12) -> Panel:
    """Test images [n, D], each over its pixel probabilities given one posterior sample."""
    probabilities = model.reconstruct(images, _noise(model, seed, _PAIRS, len(images)))
    rows = math.ceil(len(images) / columns)
    grid = np.full((2 * rows, columns, *image_shape), np.nan)
    for i, (image, probability) in enumerate(zip(images, np.asarray(probabilities), strict=True)):
        row, column = divmod(i, columns)
        grid[2 * row, column] = image.reshape(image_shape)
        grid[2 * row + 1, column] = probability.reshape(image_shape)
    title = "Test images, each over its reconstruction from one posterior sample"
    return Panel("reconstructions", title, grid, rows=("image", "reconstr.") * rows)


def completions(
    model, images, image_shape, seed: int = 0, n_samples: int = 100, n_drawn: int = 9
) -> Panel:
    """A row a test image [n, D]: the image, its upper half, completions of that.

    First the mean of n_samples samples of the lower half given the upper one, an estimate of
    P(pixel = 1 | upper half), then the first n_drawn of them. Samples are pixel probabilities given
    the latent units, under the upper half as it was given.
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
        "Test images, the upper half that is given, and completions of it:\n"
        f"the mean of {n_samples} samples of the lower half, and {n_drawn} of them",
        grid.reshape(n, 3 + n_drawn, *image_shape),
        columns=("image", "given", "mean", *(str(i + 1) for i in range(n_drawn))),
    )


def _spread(images, count):
    """`count` of the images, evenly spaced: the test images of MNIST are sorted by digit."""
    return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]


def _noise(model, seed, position, batch, n_samples=1) -> noise.Noise:
    key = noise.key(seed, "analysis", position)
    return noise.latents(key, n_samples, batch, model.n_units, model.compute_dtype)


def caption(trained, step: int) -> str:
    """What a picture is of: model, task, latent units, step.

    Args:
      trained: has `model` and `hparams`, as what `rebar.load_model` returns.
      step: steps done.
    """
    hparams = trained.hparams
    if hasattr(trained.model, "latent_shape"):
        n_latents, n_categories = trained.model.latent_shape
        latents = f"{n_latents} variables of {n_categories} categories"
    else:
        latents = f"{'-'.join(map(str, trained.model.n_units))} units"
        latents += ", nonlinear" if hparams.nonlinear else ""
    return f"{hparams.model}, task={hparams.task}, {latents}, after step {step}"


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
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    mosaics = [mosaic(panel.images) for panel in panels]
    widths = [m.shape[1] / m.shape[0] for m in mosaics]
    height = max(_HEIGHT, *(_ROW * len(panel.images) for panel in panels))
    made = Figure(figsize=(height * sum(widths) + 0.4, height + 0.9), layout="constrained")
    axes = made.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    colours = matplotlib.colormaps["gray_r"].with_extremes(bad=_FRAME)
    for axis, panel, values in zip(axes, panels, mosaics, strict=True):
        axis.imshow(values, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(panel.title, fontsize=10)
        axis.set_frame_on(False)
        _label(axis, panel)
    made.suptitle(title, fontsize=10, wrap=True)
    return made


def _label(axis, panel):
    """Labels of rows and columns in the place of ticks."""
    height, width = (pixels + 1 for pixels in panel.images.shape[2:])
    axis.tick_params(length=0, labelsize=7, labeltop=True, labelbottom=False)
    axis.set_yticks([height * (i + 0.5) for i in range(len(panel.rows))], panel.rows)
    axis.set_xticks([width * (i + 0.5) for i in range(len(panel.columns))], panel.columns)


def require_matplotlib() -> None:
    """Raises RebarError where it is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise RebarError("pictures need matplotlib; type: pip install matplotlib") from None


def suffix(path: str | os.PathLike) -> str:
    """The suffix of a picture's file. Raises RebarError for one that cannot be written."""
    found = Path(path).suffix.lower()
    if found not in SUFFIXES:
        raise RebarError(
            f"cannot write a picture to {os.fspath(path)!r}: its name must end in "
            f"{' or '.join(SUFFIXES)}, e.g. samples.png"
        )
    return found


def rendered(figure, suffix: str = ".png") -> bytes:
    """A figure as the content of a file with this suffix."""
    content = io.BytesIO()
    figure.savefig(content, format=suffix[1:], dpi=_DPI)
    return content.getvalue()


def save(figure, path: str | os.PathLike) -> None:
    """Write a figure as PNG or PDF, by the suffix of the path, whole or not at all.

    Raises:
      RebarError: another suffix, or the file cannot be written.
    """
    content = rendered(figure, suffix(path))
    try:
        write_file(path, content)
    except RebarError as error:
        # Its own message speaks of the folder of a run.
        raise RebarError(
            f"cannot write the picture {os.fspath(path)!r}: {error.__cause__}; give another file"
        ) from error


class Artist:
    """Draws a model again and again while it is trained, with the same images and noise each time.

    Args:
      trained: has `model` and `hparams`; the model is looked at anew by each call.
      images, image_shape, seed: see `panels`.

    Raises:
      RebarError: matplotlib is not installed.
    """

    def __init__(self, trained, images, image_shape: tuple[int, int], seed: int = 0):
        require_matplotlib()
        self._trained = trained
        self._arguments = (images, image_shape, seed)

    def __call__(self, step: int) -> tuple[bytes, dict[str, np.ndarray]]:
        """The picture after so many steps, which is that of the draw command.

        Returns:
          The content of its PNG file, and its panels by name: [height, width, 3] uint8.
        """
        drawn = panels(self._trained.model, *self._arguments)
        whole = rendered(figure(drawn, caption(self._trained, step)))
        # A figure holds cycles and some 3 MB; Python would let a hundred of them lie about.
        gc.collect(1)
        return whole, {panel.name: pixels(panel) for panel in drawn}


def pixels(panel: Panel, width: int = 640) -> np.ndarray:
    """The panel's mosaic without labels, [height, width, 3] uint8, ink black.

    It is enlarged to about that width: every pixel becomes a square of whole pixels.
    """
    values = mosaic(panel.images)[..., np.newaxis]
    enlarge = max(1, round(width / values.shape[1]))
    frame = np.array([int(_FRAME[i : i + 2], 16) for i in (1, 3, 5)])
    ink = 255 * (1 - np.clip(np.nan_to_num(values), 0, 1))
    coloured = np.where(np.isnan(values), frame, np.round(ink)).astype(np.uint8)
    return coloured.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
