"""A training run: epochs, evaluation, checkpoints, resuming, and an orderly stop.

    Step <step>: [ELBO, metrics of the estimator ...]    means over the epoch's minibatches
    <log of the mean gradient variance>                  or ('<method>', <log variance>) lines

are printed per epoch, Variance lines (see `estimator_variance`) every `variance_freq` epochs, Valid
and Test lines with the multi-sample bound first every `eval_freq` epochs. The numbers of a step are
those before its update; `step` is the number of steps done. A run that ends within an epoch prints
the means so far; a resumed run reports the complete epoch.
"""

import contextlib
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rebar.data.datasets import Dataset
from rebar.errors import RebarError
from rebar.hparams import HParams, Settings, completed
from rebar.runs import checkpoint, environment, files
from rebar.runs.lock import hold_run
from rebar.training.blocks import Blocks
from rebar.training.interrupt import Interrupt
from rebar.training.learner import Learner
from rebar.training.report import Draw, Report
from rebar.types import capability


class Run:
    """One training run in a folder, new or resumed.

    Args:
      learner: see `Learner`.
      dataset: training, validation and test images.
      folder: folder of the run, for checkpoints, metrics.jsonl, TensorBoard events and pictures.
      hparams: hyperparameters; with the seed they must equal those of a checkpoint.
      settings: see `Settings`.
      jit: compile steps with XLA.
      draw: see `Draw`; None: no pictures.
      say: prints a line that is not part of the log.

    Raises:
      RebarError: the folder cannot be written, or its checkpoint is of another run.
    """

    def __init__(
        self,
        learner: Learner,
        dataset: Dataset,
        folder: Path,
        hparams: HParams,
        settings: Settings,
        jit: bool = False,
        draw: Draw | None = None,
        say: Callable[[str], None] = print,
    ):
        if dataset.grayscale and not capability(learner.model, "grayscale"):
            raise RebarError(
                f"the images of {dataset.name!r} are grayscale: must be binary for "
                f"{type(learner.model).__name__}; binarize them, e.g. images > 0.5, use "
                "likelihood=gaussian, or use dynamic_b=true, or Dataset(..., dynamic=True), to "
                "binarize training images at each use"
            )
        self.learner, self.dataset, self.folder = learner, dataset, folder
        self.hparams, self.settings, self.jit = hparams, settings, jit
        self.seed = (settings.seed, hparams.trial)
        self.identity = {"hparams": hparams.to_dict(), "seed": settings.seed}
        if dataset.custom:  # others are verified by checksums
            self.identity["data"] = dataset.description
        self._say = say
        self.blocks = Blocks(
            learner,
            dataset.train,
            hparams.batch_size,
            hparams.n_samples,
            self.seed,
            jit,
            dataset.dynamic,
        )
        mode = environment.mode(jit)
        self._environment = environment.versions() | mode | environment.settings()
        self._report = Report(self, draw)
        self._epoch: list = []
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._lock = hold_run(folder)
        with contextlib.ExitStack() as undo:
            undo.callback(self._lock.close)
            self._resume()
            undo.pop_all()

    @property
    def steps(self) -> int:
        """Number of steps done."""
        return self.learner.steps

    def _resume(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            saved = checkpoint.latest(self.folder)
        for warning in caught:
            if warning.category is RuntimeWarning:
                self._say(f"warning: {warning.message}")
        if saved is not None:
            saved.metadata["hparams"] = completed(saved.metadata.get("hparams", {}))
            checkpoint.assign(saved, self.learner.named_variables(), self.identity)
            if not np.array_equal(saved.extra["input_mean"], self.learner.model.input_mean):
                raise RebarError(
                    f"{saved.path} was trained on other data: the mean of the training images "
                    "differs; give the old --data_dir to resume, or another --working_dir to start "
                    "a new run"
                )
            self._epoch = [saved.extra["epoch"]] if len(saved.extra["epoch"]) else []
            self._saved_step = saved.step
            self._say(f"resuming at step {saved.step} from {saved.path}")
            before = saved.metadata.get("versions", {})
            if changed := checkpoint.differences(before, self._environment):
                self._say(
                    f"warning: the environment changed since {saved.path.name} was written: "
                    f"{'; '.join(changed)}. The run continues, but is not bit-exact"
                )
        checkpoint.tidy(self.folder, self.steps)
        files.remove_leftovers(self.folder / "pictures", *self.folder.glob("snapshots/*"))
        if note := self._report.truncate_after(self.steps):
            self._say(note)

    def train(self) -> int | None:
        """Train to the end of the schedule.

        Returns:
          None, or the number of the signal that ended the run early, with a checkpoint.

        Raises:
          RebarError: a non-finite number; the last checkpoint is kept. Or a file cannot be written.
        """
        per_epoch = self.blocks.steps_per_epoch
        last = self.settings.training_steps
        if self.settings.epochs:
            last = min(last, self.settings.epochs * per_epoch)
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
                count = self.blocks.next_count(step, last - step)
                self._epoch.append(self._checked(step, self.blocks.take(step, count)))
                self._report.printer.advance(count)
                if (step + count) % per_epoch == 0 or step + count == last:
                    self._finish_epoch(last)
                if time.monotonic() - self._saved_at > self.settings.save_seconds:
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
                drawable = hasattr(self.learner.model, "reconstruct")
                self._report.printer.summary(self.folder, drawable)
        return requested

    def _checked(self, step, block):
        """The records of a block as a table [steps, columns]; refuses non-finite numbers."""
        variances = block.table[:, len(block.metrics) :]
        finite = np.all(np.isfinite(variances), axis=1) & (block.wrong < 0)
        if not np.all(finite):
            i = int(np.argmin(finite))
            what = "a running gradient variance"
            if block.wrong[i] >= 0:
                what = self.learner.watched[block.wrong[i]]
            kept = f"step {self._saved_step}" if self._saved_step >= 0 else "none was written yet"
            raise RebarError(
                f"non-finite value in {what} at step {step + i + 1} (step {step + i} was finite), "
                f"with the estimator {type(self.learner.estimator).__name__}; lower learning_rate "
                f"or check the inputs. The last checkpoint is kept: {kept}"
            )
        self._columns = block.metrics, block.variances
        return block.table

    def _finish_epoch(self, last):
        """Report the means of the epoch's minibatches; keep a checkpoint if it is due."""
        means = np.mean(np.concatenate(self._epoch).astype(np.float64), axis=0)
        epoch, position = divmod(self.steps, self.blocks.steps_per_epoch)
        if position == 0:
            self._epoch = []
        names, labels = self._columns
        self._report.epoch(
            dict(zip(names, means, strict=False)),
            dict(zip(labels, means[len(names) :], strict=True)),
            self.steps == last,
        )
        if position == 0 and epoch in self.settings.keep_epochs:
            self._write(self.folder / "snapshots" / f"epoch-{epoch}")

    def _save(self):
        self._write(self.folder)
        self._saved_at = time.monotonic()
        self._saved_step = self.steps

    def _write(self, folder):
        """Write a checkpoint into a folder."""
        epoch = np.concatenate(self._epoch) if self._epoch else np.zeros([0, 0], np.float32)
        checkpoint.save(
            folder,
            self.steps,
            self.learner.named_variables(),
            {"epoch": epoch, "input_mean": np.asarray(self.learner.model.input_mean)},
            {
                **self.identity,
                "versions": self._environment,
                "image_shape": [*map(int, self.dataset.image_shape)],
                "plugins": self.hparams.plugins,
            },
        )
