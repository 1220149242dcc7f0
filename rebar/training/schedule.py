"""Training length, intervals of evaluations and checkpoints, and the format of the log."""

import dataclasses

STEPS_2017 = 2_000_000


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Training length, intervals and log format.

    Attributes:
      training_steps: stop after that many steps.
      epochs: stop after that many epochs; 0: no such limit.
      eval_freq: epochs between evaluations; 0: never.
      eval_samples: S of the bound.
      variance_freq: epochs between measurements of the variance of the estimators; 0: never.
      variance_draws: draws of the noise of each.
      save_seconds: time between checkpoints (one is always written at the end).
      keep_epochs: epochs after which a checkpoint is kept for good, in snapshots/epoch-<epoch>.
      log_format: "2017", "table", "quiet", or "auto": 2017, on a terminal at most one epoch per
        second.
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

    def last_step(self, steps_per_epoch: int) -> int:
        """The step at which training ends."""
        if not self.epochs:
            return self.training_steps
        return min(self.training_steps, self.epochs * steps_per_epoch)


DEFAULT = Schedule()
