"""A training run: epochs, what they print and write, evaluation, resume, a clean stop.

    Step <step>: [ELBO, metrics of the estimator ...]    means over the epoch's minibatches
    <log of the mean gradient variance>                  or ('<method>', <log variance>) lines

then, every `variance_freq` epochs, Variance lines (see `estimator_variance`) and, every `eval_freq`
epochs, Valid and Test lines with the multi-sample bound first. The numbers of a step are those
before its update, `step` counts the steps done. A run that ends in the middle of an epoch prints
the means over the part that is done; going on later, the epoch counts as a whole.
"""

import contextlib
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from rebar.data.datasets import Dataset
from rebar.errors import RebarError
from rebar.runs import checkpoint, environment, files
from rebar.runs.images import Draw
from rebar.runs.lock import hold_run
from rebar.training.blocks import Blocks
from rebar.training.interrupt import Interrupt
from rebar.training.learner import Learner
from rebar.training.report import Report
from rebar.training.schedule import DEFAULT, Schedule
from rebar.types import capability


class Run:
    """One training run in a folder, new or resumed.

    Args:
      learner: what to train.
      dataset: training, validation and test images.
      folder: of the run; created. Holds checkpoints, metrics.jsonl, TensorBoard events, pictures.
      identity: JSON values that a checkpoint must agree with (hparams, seed).
      batch_size, n_samples, seed, jit: see `Blocks`.
      schedule: see `Schedule`.
      label: of a single estimator, where its variance is measured.
      say: prints a line that is not part of the log (warnings, what is resumed).
      draw: what is drawn at evaluations, see `runs.images`; it must leave the model as it is.
      settings: what TensorBoard's HPARAMS tab shows of the run; nothing, if empty.

    Raises:
      RebarError: the folder cannot be written, or its checkpoint is of another run.
    """

    def __init__(
        self,
        learner: Learner,
        dataset: Dataset,
        folder,
        identity: dict,
        *,
        batch_size: int,
        n_samples: int = 1,
        seed=0,
        jit: bool = False,
        schedule: Schedule = DEFAULT,
        label: str | None = None,
        say: Callable[[str], None] = print,
        draw: Draw | None = None,
        settings: Mapping[str, Any] = MappingProxyType({}),
    ):
        if dataset.grayscale and not capability(learner.model, "grayscale"):
            raise RebarError(
                f"the images of {dataset.name!r} are grayscale: must be binary for "
                f"{type(learner.model).__name__}; binarize them, e.g. images > 0.5, or give "
                "Dataset(..., dynamic=True) to binarize training images at each use"
            )
        self._learner = learner
        self._data = dataset
        self._folder = Path(folder)
        self._identity = identity
        self._schedule = schedule
        self._say = say
        self._blocks = Blocks(
            learner, dataset.train, batch_size, n_samples, seed, jit, dataset.dynamic
        )
        self._environment = environment.versions() | environment.mode(jit) | environment.settings()
        self._report = Report(
            learner,
            dataset,
            self._folder,
            schedule,
            self._blocks.steps_per_epoch,
            batch_size=batch_size,
            n_samples=n_samples,
            seed=seed,
            jit=jit,
            label=label,
            draw=draw,
            settings=settings,
        )
        self._epoch: list = []
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._lock = hold_run(self._folder)
        with contextlib.ExitStack() as undo:
            undo.callback(self._lock.close)
            self._resume()
            undo.pop_all()

    @property
    def steps(self) -> int:
        """Steps done."""
        return self._learner.steps

    def _resume(self):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", RuntimeWarning)
            found = checkpoint.restore(
                self._folder, self._learner.named_variables(), self._identity
            )
        for warning in told:
            if warning.category is RuntimeWarning:
                self._say(f"warning: {warning.message}")
        if found is not None:
            mean = found.extra["input_mean"]
            if not np.array_equal(mean, self._learner.model.input_mean):
                raise RebarError(
                    f"{found.path} was trained on other data: the mean of the training images "
                    "differs. Give the old --data_dir to go on, or another --working_dir to start "
                    "a new run"
                )
            self._epoch = [found.extra["epoch"]] if len(found.extra["epoch"]) else []
            self._saved_step = found.step
            self._say(f"resuming at step {found.step} from {found.path}")
            changed = checkpoint.changed(found, "versions", self._environment)
            if changed:
                self._say(
                    f"warning: the environment changed since {found.path.name} was written: "
                    f"{'; '.join(changed)}. The run continues, but is not bit-exact"
                )
        checkpoint.tidy(self._folder, self.steps)
        files.remove_leftovers(*self._folder.glob("snapshots/*"))
        for text in self._report.truncate_after(self.steps):
            self._say(text)

    def train(self) -> int | None:
        """Train to the end of the schedule; says so if it is reached already.

        Returns:
          None, or the number of the signal that ended the run early; all is saved either way.

        Raises:
          RebarError: a number is no longer finite; says between which steps, and keeps the last
            good checkpoint. Or something cannot be written.
        """
        per_epoch = self._blocks.steps_per_epoch
        last = self._schedule.last_step(per_epoch)
        if self.steps >= last:
            self._lock.close()
            self._say(
                f"already complete: {self.steps} of {last} steps; raise --training_steps or "
                "--epochs to continue"
            )
            return None
        with (
            contextlib.closing(self._lock),
            Interrupt() as interrupt,
            self._report.opened(last),
        ):
            while (step := self.steps) < last and interrupt.requested is None:
                count = self._blocks.next_count(step, last - step)
                self._epoch.append(self._checked(step, self._blocks.take(step, count)))
                self._report.printer.advance(count)
                if (step + count) % per_epoch == 0 or step + count == last:
                    self._finish_epoch(last)
                if time.monotonic() - self._saved_at > self._schedule.save_seconds:
                    self._save()
            requested = interrupt.requested
            if self.steps != self._saved_step:
                self._save()
            if requested is not None:
                name = signal.Signals(requested).name
                self._report.printer.message(
                    f"{name}: saved at step {self.steps}; rerun the same command to resume"
                )
            else:
                self._report.printer.summary(self._folder)
        return requested

    def _checked(self, step, taken):
        """The block's records as a table [steps, columns]; refuses what is not finite."""
        variances = np.isfinite(list(taken.variances.values()))
        finite = taken.finite & np.all(variances, axis=0)
        if not np.all(finite):
            i = int(np.argmin(finite))
            what = "a running gradient variance"
            if not taken.finite[i]:
                what = self._learner.watched[taken.first[i]]
            kept = f"step {self._saved_step}" if self._saved_step >= 0 else "none was written yet"
            raise RebarError(
                f"a number is not finite any more: {what} at step {step + i + 1} (step {step + i} "
                f"was good), with the estimator {type(self._learner.estimator).__name__}. The last "
                f"good checkpoint is kept: {kept}. Try a lower learning_rate, or look at the inputs"
            )
        self._columns = (tuple(taken.metrics), tuple(taken.variances))
        return np.stack([*taken.metrics.values(), *taken.variances.values()], axis=1)

    def _finish_epoch(self, last):
        """Report the means of the epoch's minibatches, keep a checkpoint if it is time."""
        means = np.mean(np.concatenate(self._epoch).astype(np.float64), axis=0)
        epoch, rest = divmod(self.steps, self._blocks.steps_per_epoch)
        if rest == 0:
            self._epoch = []
        names, labels = self._columns
        self._report.epoch(
            dict(zip(names, means, strict=False)),
            dict(zip(labels, means[len(names) :], strict=True)),
            self.steps == last,
        )
        if rest == 0 and epoch in self._schedule.keep_epochs:
            self._write(self._folder / "snapshots" / f"epoch-{epoch}")
        self._report.begin_epoch()

    def _save(self):
        self._write(self._folder)
        self._saved_at = time.monotonic()
        self._saved_step = self.steps

    def _write(self, folder):
        """A checkpoint into a folder."""
        epoch = np.concatenate(self._epoch) if self._epoch else np.zeros([0, 0], np.float32)
        checkpoint.save(
            folder,
            self.steps,
            self._learner.named_variables(),
            {"epoch": epoch, "input_mean": np.asarray(self._learner.model.input_mean)},
            {**self._identity, "versions": self._environment},
        )
