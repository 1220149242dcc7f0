"""Settings of a run besides its hyperparameters: defaults, help texts and limits."""

import dataclasses
import math
import os
from typing import Any

from rebar.errors import RebarError
from rebar.runs.printer import FORMATS

_MAX_DRAWS = 1_000_000


def _setting(default: Any, text: str, **limits: Any) -> Any:
    """Return a field; limits are the keywords of `_expected`."""
    return dataclasses.field(default=default, metadata={"help": text, "limits": limits})


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a run besides its hyperparameters; also flags of the train command.

    Raises:
      RebarError: a value is invalid.
    """

    preset: str | None = _setting(
        None, "Published protocol that sets hparams; hparams given besides override them."
    )
    working_dir: str | os.PathLike = _setting("/tmp/rebar", "Parent of the folders of runs.")  # noqa: RUF009
    data_dir: str | os.PathLike = _setting("data", "Folder of the data sets.")  # noqa: RUF009
    training_steps: int = _setting(2_000_000, "Total number of steps.", lower_bound=1)
    epochs: int = _setting(0, "Total number of epochs; 0 sets no limit.", lower_bound=0)
    seed: int = _setting(0, "Seed of all randomness.", lower_bound=0, upper_bound=2**32 - 1)
    eval_freq: int = _setting(20, "Epochs between evaluations; 0 disables them.", lower_bound=0)
    eval_samples: int = _setting(
        100, "Samples of the evaluated bound.", lower_bound=1, upper_bound=_MAX_DRAWS
    )
    draw: bool = _setting(False, "Draw samples and test images at each evaluation.")
    variance_freq: int = _setting(
        0,
        "Epochs between measurements of the conditional variance, at fixed parameters and images; "
        "0 disables them.",
        lower_bound=0,
    )
    variance_draws: int = _setting(
        100, "Noise draws per variance measurement.", lower_bound=4, upper_bound=_MAX_DRAWS
    )
    save_seconds: float = _setting(
        300.0, "Seconds between checkpoints; one is always written at the end.", lower_bound=0
    )
    keep_epochs: tuple = _setting(
        (), "Epochs whose checkpoints are kept in snapshots/epoch-<epoch>, e.g. 1,5,25."
    )
    log_format: str = _setting(
        "auto",
        "Printed lines: those of 2017, a table, or only a summary; auto is 2017, on a terminal at "
        "most one epoch per second.",
        enum_values=FORMATS,
    )
    jit: str = _setting(
        "auto",
        "Compile steps with XLA; auto chooses by estimator.",
        enum_values=("auto", "on", "off"),
    )
    threads: int = _setting(
        0, "Intra-op threads; 0 chooses from the step size.", lower_bound=0, upper_bound=1024
    )
    cores: int = _setting(0, "Maximum number of cores; 0 uses all.", lower_bound=0)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if expected := _expected(value, field.default, **field.metadata["limits"]):
                raise RebarError(f"{field.name}={value!r}: must be {expected}")
        if self.draw and not self.eval_freq:
            raise RebarError(
                "draw=True: needs evaluations, but eval_freq=0; set eval_freq=20, or draw the "
                "trained model with rebar-draw"
            )


def _expected(value, default, lower_bound=0, upper_bound=math.inf, enum_values=()) -> str:
    """Return what a value must be, or "" if it is valid."""
    if enum_values:
        valid, text = value in enum_values, f"one of {', '.join(enum_values)}"
    elif isinstance(default, bool):
        valid, text = isinstance(value, bool), "True or False"
    elif isinstance(default, tuple):
        valid = isinstance(value, tuple | list) and all(type(v) is int and v > 0 for v in value)
        text = "integers from 1, e.g. (1, 5, 25)"
    elif isinstance(default, int | float):
        integer = isinstance(default, int)
        numeric = isinstance(value, int if integer else int | float) and type(value) is not bool
        valid = numeric and lower_bound <= value <= upper_bound
        text = f"{'an integer' if integer else 'a number'}, at least {lower_bound}"
        text += f" and at most {upper_bound}" if upper_bound < math.inf else ""
    else:
        valid, text = True, ""
    return "" if valid else text
