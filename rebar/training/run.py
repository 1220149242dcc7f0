"""A training run: epochs, what they print and write, evaluation, resume, a clean stop.

    Step <step>: [ELBO, metrics of the estimator ...]    means over the epoch's minibatches
    <log of the mean gradient variance>                  or ('<method>', <log variance>) lines

then, every `variance_freq` epochs, Variance lines (see `estimator_variance`) and, every `eval_freq`
epochs, Valid and Test lines with the multi-sample bound first. The numbers of a step are those
before its update, `step` counts the steps done. A run that ends in the middle of an epoch prints
the means over the part that is done; going on later, the epoch counts as a whole.
"""

import contextlib
import dataclasses
import math
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
from rebar.training import checkpoint, events, files, records
from rebar.training.blocks import Blocks
from rebar.training.estimator_variance import VarianceMeter, fixed_batch
from rebar.training.evaluate import Evaluator
from rebar.training.gallery import Draw, Gallery
from rebar.training.interrupt import Interrupt
from rebar.training.learner import Learner
from rebar.training.lock import FolderLock
from rebar.training.moments import OF_PART
from rebar.training.surroundings import mode, versions

STEPS_2017 = 2_000_000


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long to train, how often to look.

    Attributes:
      training_steps: stop after that many steps.
      epochs: stop after that many epochs; 0: no such limit.
      eval_freq: epochs between evaluations; 0: never.
      eval_samples: S of the bound.
      variance_freq: epochs between measurements of the variance of the estimators; 0: never.
      variance_draws: draws of the noise of each.
      save_seconds: time between checkpoints (one is always written at the end).
      keep_epochs: epochs after which a checkpoint is kept for good, in snapshots/epoch-<epoch>.
    """

    training_steps: int = STEPS_2017
    epochs: int = 0
    eval_freq: int = 20
    eval_samples: int = 100
    variance_freq: int = 0
    variance_draws: int = 100
    save_seconds: float = 300.0
    keep_epochs: tuple = ()


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
      draw: what is drawn at evaluations, see `gallery`; it must leave the model as it is.
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
        schedule: Schedule = Schedule(),
        label: str | None = None,
        say: Callable[[str], None] = print,
        draw: Draw | None = None,
        settings: Mapping[str, Any] = MappingProxyType({}),
    ):
        self._learner = learner
        self._data = dataset
        self._folder = Path(folder)
        self._identity = identity
        self._schedule = schedule
        self._settings = settings
        self._say = say
        self._blocks = Blocks(
            learner, dataset.train, batch_size, n_samples, seed, jit, dataset.dynamic
        )
        self._evaluate = Evaluator(learner.model, learner.estimator, seed)
        self._meter = VarianceMeter(learner.model, learner.estimator, n_samples, jit, label)
        self._batch = fixed_batch(dataset.train, batch_size, dataset.dynamic)
        self._seed = seed
        self._surroundings = versions() | mode(jit)
        self._metrics = records.MetricsFile(self._folder / "metrics.jsonl")
        self._gallery = Gallery(self._folder, draw)
        self._epoch: list = []
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._lock = FolderLock(
            self._folder,
            f"another process trains in {self._folder}; wait for it, or choose another "
            "--working_dir, --seed or trial for a run of its own",
        )
        try:
            self._resume()
        except BaseException:
            self._lock.close()
            raise

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
        if self._lock.left_elsewhere is not None:
            self._say(
                f"warning: {self._folder} was last {self._lock.left_elsewhere}, and not let go. "
                "Should that process still run, stop it: two must not write to one run"
            )
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
            changed = checkpoint.changed(found, "versions", self._surroundings)
            if changed:
                self._say(
                    f"warning: not as it was when {found.path.name} was written: "
                    f"{'; '.join(changed)}. The run goes on, but its last bits may not be those "
                    "of a run in one go"
                )
        checkpoint.remove_older(self._folder, self.steps)
        files.remove_leftovers(self._folder, *self._folder.glob("snapshots/*"))
        dropped = self._metrics.truncate_after(self.steps)
        if dropped:
            self._say(
                f"{dropped} lines of {self._metrics.path} beyond step {self.steps} are dropped; "
                "these steps are trained again"
            )
        self._gallery.truncate_after(self.steps)
        for path in events.cut_after(self._folder, self.steps):
            self._say(
                f"warning: {path} was torn or broken and is cut there; should events of earlier "
                "steps be lost, metrics.jsonl has their numbers"
            )

    def train(self) -> int | None:
        """Train to the end of the schedule; says so if it is reached already.

        Returns:
          None, or the number of the signal that ended the run early; all is saved either way.

        Raises:
          RebarError: a number is no longer finite; says between which steps, and keeps the last
            good checkpoint. Or something cannot be written.
        """
        per_epoch = self._blocks.steps_per_epoch
        last = self._schedule.training_steps
        if self._schedule.epochs:
            last = min(last, self._schedule.epochs * per_epoch)
        if self.steps >= last:
            self._lock.close()
            self._say(
                f"nothing left to do: {self.steps} steps done, {last} asked for; to go on, give "
                "more --training_steps or --epochs"
            )
            return None
        self._started = time.monotonic()
        with (
            contextlib.closing(self._lock),
            Interrupt() as interrupt,
            events.Events(self._folder, self.steps) as self._events,
            records.Progress(last, self.steps) as self._progress,
        ):
            self._events.hparams(self._settings, self._folder.name)
            while (step := self.steps) < last and interrupt.requested is None:
                count = self._blocks.next_count(step, last - step)
                self._epoch.append(self._checked(step, self._blocks.take(step, count)))
                self._progress.update(count)
                if (step + count) % per_epoch == 0 or step + count == last:
                    self._finish_epoch()
                if time.monotonic() - self._saved_at > self._schedule.save_seconds:
                    self._save()
            if self.steps != self._saved_step:
                self._save()
            if interrupt.requested is not None:
                name = signal.Signals(interrupt.requested).name
                self._progress.print(
                    f"{name}: saved at step {self.steps}; the same command goes on from there"
                )
        return interrupt.requested

    def _checked(self, step, taken):
        """The block's records as a table [steps, columns]; refuses what is not finite."""
        finite = taken.finite & np.all(np.isfinite(list(taken.variances.values())), axis=0)
        if not np.all(finite):
            bad = step + int(np.argmin(finite)) + 1
            kept = f"step {self._saved_step}" if self._saved_step >= 0 else "none was written yet"
            raise RebarError(
                f"a number is not finite any more: ELBO, gradients or gradient variances of step "
                f"{bad} (step {bad - 1} was good). The last good checkpoint is kept: {kept}. Try "
                "a lower learning_rate, or look at the inputs"
            )
        self._columns = (tuple(taken.metrics), tuple(taken.variances))
        return np.stack([*taken.metrics.values(), *taken.variances.values()], axis=1)

    def _finish_epoch(self):
        """Print and write the means of the epoch's minibatches, evaluate if it is time."""
        step = self.steps
        means = np.mean(np.concatenate(self._epoch).astype(np.float64), axis=0)
        if step % self._blocks.steps_per_epoch == 0:
            self._epoch = []
        names, labels = self._columns
        metrics = dict(zip(names, means, strict=False))
        variances = dict(zip(labels, means[len(names) :], strict=True))
        log_variances = {k: _log(v) for k, v in variances.items() if not k.endswith(OF_PART)}
        log_variance = log_variances.get("", log_variances)
        of_q = {
            k.removesuffix(OF_PART): _log(v) for k, v in variances.items() if k.endswith(OF_PART)
        }
        self._progress.print(records.format_step(step, list(metrics.values())))
        self._progress.print(records.format_log_variance(log_variance))
        record = {
            "step": step,
            "epoch": step / self._blocks.steps_per_epoch,
            **metrics,
            "log_variance": log_variance,
            "log_variance_q": of_q.get("", of_q),
            "seconds": time.monotonic() - self._started,
        }
        scalars = events.train_tags(metrics, log_variances, of_q)
        images = {}
        if self._is_time(self._schedule.variance_freq):
            record |= self._estimator_variance(step, scalars)
        if self._is_time(self._schedule.eval_freq):
            record |= self._evaluation(step, scalars)
            images = self._gallery.add(step)
        self._metrics.append(record)
        self._events.scalars(step, scalars)
        self._events.images(step, images)
        epoch, rest = divmod(step, self._blocks.steps_per_epoch)
        if rest == 0 and epoch in self._schedule.keep_epochs:
            self._write(self._folder / "snapshots" / f"epoch-{epoch}")
        self._started = time.monotonic()

    def _is_time(self, frequency):
        """Whether a whole number of `frequency` epochs is done; never for 0."""
        return frequency > 0 and self.steps % (frequency * self._blocks.steps_per_epoch) == 0

    def _estimator_variance(self, step, scalars):
        """Measure, print and return the variance of the estimators alone."""
        draws = self._schedule.variance_draws
        measured = self._meter(self._batch, draws, self._seed, (step,))
        table = {label: values.record() for label, values in measured.items()}
        for label in sorted(table):
            self._progress.print(records.format_estimator_variance(step, label, table[label]))
            parts = {part: _log(v.variance) for part, v in measured[label].parts.items()}
            alone = "" in self._columns[1]
            scalars |= events.estimator_variance_tags(parts, "" if alone else label)
        return {"estimator_variance": table, "variance_draws": draws}

    def _evaluation(self, step, scalars):
        """Print and return the bounds of the validation and the test images."""
        record = {}
        for stream, (name, images) in enumerate(
            (("Valid", self._data.valid), ("Test", self._data.test))
        ):
            if not len(images):
                continue  # nothing was set aside for validation
            values = self._evaluate(images, self._schedule.eval_samples, stream)
            self._progress.print(records.format_eval(name, step, list(values.values())))
            name = name.lower()
            record[name] = scalars[f"{name}/bound"] = values["bound"]
            record[f"{name}_elbo"] = scalars[f"{name}/elbo"] = values["elbo"]
        return record | {"eval_samples": self._schedule.eval_samples}

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
            {**self._identity, "versions": self._surroundings},
        )


def _log(variance: float) -> float:
    """log of a variance: -inf for 0, nan where rounding or a shared mean makes it negative."""
    if variance == 0:
        return -math.inf
    return math.log(variance) if variance > 0 else math.nan
