"""A train command that learns nothing in no time, but leaves the records of a real run.

Ten steps an epoch. The environment says how it misbehaves: STUB_FAIL (a model that fails half-way),
STUB_LIE (a model that ends well, half done), STUB_SLOW (seconds an epoch).
"""

import os
import signal
import sys
import time
from pathlib import Path

from absl import flags

from rebar.cli.train import define_flags
from rebar.hparams import HParams, run_name
from rebar.runs import checkpoint
from rebar.runs.records import MetricsFile
from rebar.training.interrupt import Interrupt

STEPS = 10
TRAIN = (sys.executable, __file__)
"""Replaces `rebar.sweep.job.TRAIN`."""


def tail(log: Path) -> list[str]:
    """The lines of a log, [] without one."""
    return log.read_text().splitlines() if log.exists() else []


def main() -> int:
    values = define_flags()
    values(sys.argv)
    hparams = HParams.parse(*values.hparams)
    folder = Path(values.working_dir) / run_name(hparams, values.seed)
    identity = {"hparams": hparams.to_dict(), "seed": values.seed}
    found = checkpoint.latest(folder)
    first = 0 if found is None else found.step // STEPS
    print(f"cores: {values.cores}; first epoch: {first}")
    metrics = MetricsFile(folder / "metrics.jsonl")
    metrics.truncate_after(first * STEPS)
    with Interrupt() as interrupt:
        for epoch in range(first + 1, values.epochs + 1):
            half = epoch > values.epochs / 2
            if half and os.environ.get("STUB_FAIL") == hparams.model:
                print("the stub is broken", file=sys.stderr)
                return 3
            if half and os.environ.get("STUB_LIE") == hparams.model:
                return 0
            time.sleep(float(os.environ.get("STUB_SLOW", "0")))
            folder.mkdir(parents=True, exist_ok=True)
            record = {"step": epoch * STEPS, "epoch": epoch, "elbo": -20.0 - hparams.n_layer}
            metrics.append(record | ({"test": -19.5} if epoch == values.epochs else {}))
            checkpoint.save(folder, epoch * STEPS, {}, {}, identity)
            if interrupt.requested is not None:
                print(f"saved on {signal.Signals(interrupt.requested).name}")
                return 128 + interrupt.requested
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except flags.Error as error:
        sys.exit(f"error: {error}")
