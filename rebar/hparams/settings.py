"""Settings of a run besides its hyperparameters: defaults, help texts and valid values."""

import dataclasses
import os

from rebar.hparams import checks
from rebar.hparams.fields import AT_LEAST_ONE, SEED, Limit, between, field

_NOT_NEGATIVE = Limit(lambda v: v >= 0, "at least 0")
_EPOCHS = Limit(
    lambda v: all(type(epoch) is int and epoch > 0 for epoch in v),
    "integers from 1, e.g. (1, 5, 25)",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a run besides its hyperparameters; also flags of the train command.

    Raises:
      RebarError: a value is invalid.
    """

    preset: str | None = field(
        None, "Published protocol that sets hparams; hparams given besides override them."
    )
    working_dir: str | os.PathLike = field("/tmp/rebar", "Parent of the folders of runs.")  # noqa: RUF009
    data_dir: str | os.PathLike = field("data", "Folder of the data sets.")  # noqa: RUF009
    training_steps: int = field(2_000_000, "Total number of steps.", AT_LEAST_ONE)
    epochs: int = field(0, "Total number of epochs; 0 sets no limit.", _NOT_NEGATIVE)
    seed: int = field(0, "Seed of all randomness.", SEED)
    eval_freq: int = field(20, "Epochs between evaluations; 0 disables them.", _NOT_NEGATIVE)
    eval_samples: int = field(100, "Samples of the evaluated bound.", between(1, 10**6))
    draw: bool = field(False, "Draw samples and test images at each evaluation.")
    variance_freq: int = field(
        0,
        "Epochs between measurements of the conditional variance, at fixed parameters and images; "
        "0 disables them.",
        _NOT_NEGATIVE,
    )
    variance_draws: int = field(100, "Noise draws per variance measurement.", between(4, 10**6))
    save_seconds: float = field(
        300.0, "Seconds between checkpoints; one is always written at the end.", _NOT_NEGATIVE
    )
    keep_epochs: tuple = field(
        (), "Epochs whose checkpoints are kept in snapshots/epoch-<epoch>, e.g. 1,5,25.", _EPOCHS
    )
    log_format: str = field(
        "auto",
        "Printed lines: those of 2017, a table, or only a summary; auto is 2017, on a terminal at "
        "most one epoch per second.",
        choices=("auto", "2017", "table", "quiet"),
    )
    jit: str = field(
        "auto",
        "Compile steps with XLA; auto chooses by estimator.",
        choices=("auto", "on", "off"),
    )
    threads: int = field(0, "Intra-op threads; 0 chooses from the step size.", between(0, 1024))
    cores: int = field(0, "Maximum number of cores; 0 uses all.", _NOT_NEGATIVE)

    def __post_init__(self):
        problems = checks.convert(self)
        if self.draw and not self.eval_freq:
            problems.append(
                "draw=True: needs evaluations, but eval_freq=0; set eval_freq=20, or draw the "
                "trained model with rebar-draw"
            )
        checks.refuse("invalid settings", problems)
