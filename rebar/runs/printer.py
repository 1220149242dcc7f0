"""Printed lines of a run: the log lines of 2017, a table, or nothing but a summary."""

import contextlib
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tqdm

from rebar.runs import records

_SECONDS = 1.0


class Printer:
    """Prints epochs, measurements and a closing summary, below a progress bar.

    Args:
      log_format: "2017", "table", "quiet", or "auto": as 2017, but at most one epoch per second
        on a terminal.
      total, initial: steps in total and steps already done.
    """

    def __init__(self, log_format: str, total: int, initial: int):
        self._lines = log_format in ("auto", "2017")
        self._table = log_format == "table"
        self._throttle = log_format == "auto" and sys.stdout.isatty()
        self._bar = tqdm.tqdm(
            total=total,
            initial=initial,
            unit="step",
            file=sys.stderr,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
            leave=False,
        )
        self._titled = False
        self._printed_at = -math.inf
        self._last: dict[str, Any] = {}

    def advance(self, steps: int) -> None:
        """Move the progress bar."""
        self._bar.update(steps)

    def message(self, text: str) -> None:
        """Print a line in every format, at once.

        Nothing happens where nobody reads it any more: the run ends by SIGPIPE (`Interrupt`).
        """
        with contextlib.suppress(BrokenPipeError):
            self._bar.write(text, file=sys.stdout)
            sys.stdout.flush()

    def epoch(
        self, step: int, metrics: Mapping[str, float], log_variance: Any, important: bool
    ) -> None:
        """Print the Step line and the log variance of an epoch, below a line of column names.

        Args:
          step: steps done.
          metrics: "elbo", then those of the estimator.
          log_variance: a number, or label -> number.
          important: print in any case: the last epoch, or one with measurements.
        """
        recent = time.monotonic() - self._printed_at < _SECONDS
        if not self._lines or (self._throttle and recent and not important):
            return
        self._printed_at = time.monotonic()
        if not self._titled:
            columns = ", ".join(metrics)
            self.message(f"columns of Step: {columns}; next line: log of the gradient variance")
            self._titled = True
        self.message(records.format_step(step, list(metrics.values())))
        self.message(records.format_log_variance(log_variance))

    def variance(self, step: int, label: str, measured: Mapping[str, Any]) -> None:
        """Print a measured variance."""
        if self._lines or self._table:
            self.message(records.format_estimator_variance(step, label, measured))

    def evaluation(self, name: str, step: int, values: Sequence[float]) -> None:
        """Print a Valid or Test line."""
        if self._lines:
            self.message(records.format_eval(name, step, values))

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        """Print the row of a table."""
        self._last = dict(record)
        if not self._table:
            return
        log_variance = record["log_variance"]
        if not isinstance(log_variance, Mapping):
            log_variance = {"log variance": log_variance}
        row = {
            "step": f"{record['step']}",
            "epoch": f"{record['epoch']:.4g}",
            "ELBO": f"{record['elbo']:.4f}",
            **{label: f"{value:.4f}" for label, value in log_variance.items()},
            "seconds": f"{record['seconds']:.3g}",
            "test bound": f"{record['test']:.4f}" if "test" in record else "",
        }
        widths = [max(10, len(name)) + 2 for name in row]
        for cells in [row.values()] if self._titled else [row, row.values()]:
            line = "".join(c.rjust(w) for c, w in zip(cells, widths, strict=True))
            self.message(line.rstrip())
        self._titled = True

    def summary(self, folder: Path, drawable: bool = True) -> None:
        """Print what the run has reached, and the commands to look at it."""
        if not self._last:
            return
        last, test = self._last, ""
        if "test" in last:
            test = f", test bound {last['test']:.2f} ({last['eval_samples']} samples)"
        self.message(
            f"finished: {last['step']} steps, ELBO {last['elbo']:.2f} nats{test}\n"
            f"folder: {folder}\n"
            + f"draw samples: rebar-draw {folder}\n" * drawable
            + f"compare runs: rebar-compare {folder}"
        )

    def close(self) -> None:
        """Remove the progress bar."""
        self._bar.close()
