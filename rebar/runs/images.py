"""The pictures that a run draws at its evaluations: RUN/pictures/step-0000123.png."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from rebar.errors import RebarError
from rebar.runs.files import write_file

Draw = Callable[[int], tuple[bytes, dict[str, np.ndarray]]]
"""Step -> a PNG file's content, and its parts by name: [height, width, 3] uint8."""

_NAME = re.compile(r"step-(\d+)\.png(\.tmp)?")


class Gallery:
    """Pictures in a folder of a run.

    Args:
      folder: of the run; `pictures` is made in it with the first picture.
      draw: see `Draw`; None: nothing is drawn.
    """

    def __init__(self, folder: Path, draw: Draw | None = None):
        self._folder = folder / "pictures"
        self._draw = draw

    def add(self, step: int) -> dict[str, np.ndarray]:
        """Draw and write, whole or not at all; returns the parts under TensorBoard's tags.

        Raises:
          RebarError: the file cannot be written.
        """
        if self._draw is None:
            return {}
        whole, parts = self._draw(step)
        write_file(self._folder / f"step-{step:07d}.png", whole)
        return {f"pictures/{name}": image for name, image in parts.items()}

    def truncate_after(self, step: int) -> None:
        """Remove pictures beyond `step`, and what is left of one that was being written.

        A run that goes on draws them again.

        Raises:
          RebarError: they cannot be removed.
        """
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in self._folder.iterdir():
                match = _NAME.fullmatch(path.name)
                if match and (match[2] or int(match[1]) > step):
                    try:
                        path.unlink()
                    except OSError as error:
                        raise RebarError(f"cannot remove {path}: {error.strerror}") from error
