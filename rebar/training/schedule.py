"""Settings of a run: training length, intervals, log format, noise and outputs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

STEPS_2017 = 2_000_000

Draw = Callable[[int], Mapping[str, np.ndarray]]
"""Draws a step into a file; returns images for TensorBoard, [height, width, 3] uint8 by tag."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Training length, intervals and log format.

    Attributes:
      training_steps: maximum number of steps.
      epochs: maximum number of epochs; 0: no limit.
      eval_freq: epochs between evaluations; 0: never.
      eval_samples: samples of the bound.
      variance_freq: epochs between measurements of the conditional variance; 0: never.
      variance_draws: noise draws per measurement.
      save_seconds: time between checkpoints; one is always written at the end.
      keep_epochs: epochs whose checkpoints are kept, in snapshots/epoch-<epoch>.
      log_format: one of `runs.printer.FORMATS`.
    """

    training_steps: int = STEPS_2017
    epochs: int = 0
    eval_freq: int = 20
    eval_samples: int = 100
    variance_freq: int = 0
    variance_draws: int = 100
    save_seconds: float = 300.0
    keep_epochs: tuple = ()
    log_format: str = "auto"


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of a `Run`.

    Attributes:
      batch_size, n_samples, seed, jit: see `Blocks`.
      schedule: see `Schedule`.
      label: name of a single estimator in variance measurements.
      say: prints a line that is not part of the log.
      draw: draws pictures at evaluations without changing the model.
      settings: values for TensorBoard's HPARAMS tab, if any.
    """

    batch_size: int
    n_samples: int = 1
    seed: Any = 0
    jit: bool = False
    schedule: Schedule = Schedule()
    label: str | None = None
    say: Callable[[str], None] = print
    draw: Draw | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
