"""Per-epoch reporting: log lines, metrics.jsonl, TensorBoard, pictures."""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from rebar.analysis.variance import VarianceMeter, fixed_batch
from rebar.runs import events, records
from rebar.runs.printer import Printer
from rebar.training.evaluate import Evaluator
from rebar.training.moments import OF_PART

Draw = Callable[[int], Mapping[str, np.ndarray]]
"""Draws a step into a file, without changing the model; returns images for TensorBoard, [height,
width, 3] uint8 by tag."""


class Report:
    """Measures, prints and writes the state of a `Run` at the ends of its epochs."""

    def __init__(self, run, draw: Draw | None):
        self._run = run
        self._settings = run.settings
        self._metrics = records.MetricsFile(run.folder / "metrics.jsonl")
        self._draw = draw

    def truncate_after(self, step: int) -> str | None:
        """Drop records beyond the step of a checkpoint; return a note about it."""
        dropped = self._metrics.truncate_after(step)
        if not dropped:
            return None
        return (
            f"{dropped} lines of {self._metrics.path} beyond step {step} are dropped; these steps "
            "are repeated"
        )

    @contextlib.contextmanager
    def opened(self, last: int) -> Iterator[None]:
        """Show a progress bar up to step `last`, and write a file of events."""
        run = self._run
        with (
            contextlib.closing(events.Events(run.folder)) as self._events,
            contextlib.closing(Printer(run.settings.log_format, last, run.steps)) as self.printer,
        ):
            values = {**run.hparams.applicable(), "seed": run.settings.seed}
            self._events.hparams(values, run.folder.name)
            self._started = time.monotonic()
            yield

    def epoch(
        self, metrics: Mapping[str, float], variances: Mapping[str, float], last: bool
    ) -> None:
        """Print and write the means of an epoch; measure and evaluate if they are due.

        Args:
          metrics: "elbo", then those of the estimator.
          variances: see `Moments.values`.
          last: whether training ends here.
        """
        step = self._run.steps
        logs = {label: _log(variance) for label, variance in variances.items()}
        of_q = {k.removesuffix(OF_PART): v for k, v in logs.items() if k.endswith(OF_PART)}
        log_variances = {k: v for k, v in logs.items() if not k.endswith(OF_PART)}
        log_variance = log_variances.get("", log_variances)
        measure = self._is_due(self._settings.variance_freq)
        evaluate = self._is_due(self._settings.eval_freq)
        self.printer.epoch(step, metrics, log_variance, last or measure or evaluate)
        record = {
            "step": step,
            "epoch": step / self._run.blocks.steps_per_epoch,
            **metrics,
            "log_variance": log_variance,
            "log_variance_q": of_q.get("", of_q),
            "seconds": time.monotonic() - self._started,
        }
        scalars = events.train_tags(metrics, log_variances, of_q)
        images = {}
        if measure:
            record |= self._estimator_variance(step, scalars, "" in variances)
        if evaluate:
            record |= self._evaluation(step, scalars)
            images = self._draw(step) if self._draw else {}
        self._metrics.append(record)
        self.printer.end_epoch(record)
        self._events.scalars(step, scalars)
        self._events.images(step, images)
        self._started = time.monotonic()

    @functools.cached_property
    def _measure(self):
        """Meter of the conditional variance at the fixed batch; estimators are compiled once."""
        run = self._run
        model, estimator, hparams = run.learner.model, run.learner.estimator, run.hparams
        meter = VarianceMeter(model, estimator, hparams.n_samples, run.jit, hparams.entry.label)
        batch = fixed_batch(run.dataset.train, hparams.batch_size, run.dataset.dynamic)
        return functools.partial(meter, batch)

    @functools.cached_property
    def _evaluate(self):
        """Evaluator of the bound; passes are compiled once."""
        run = self._run
        return Evaluator(run.learner.model, run.learner.estimator, run.seed, run.jit)

    def _is_due(self, frequency):
        """Return True at multiples of `frequency` epochs; False for 0."""
        every = frequency * self._run.blocks.steps_per_epoch
        return every > 0 and self._run.steps % every == 0

    def _estimator_variance(self, step, scalars, alone):
        """Measure, print and return the conditional variances."""
        draws = self._settings.variance_draws
        measured = self._measure(draws, self._run.seed, (step,))
        table = {label: values.record() for label, values in measured.items()}
        for label in sorted(table):
            self.printer.variance(step, label, table[label])
            parts = {part: _log(v) for part, v in measured[label].variance.items()}
            scalars |= events.estimator_variance_tags(parts, "" if alone else label)
        return {"estimator_variance": table, "variance_draws": draws}

    def _evaluation(self, step, scalars):
        """Print and return the bounds of the validation and test images."""
        record = {}
        sets = {"Valid": self._run.dataset.valid, "Test": self._run.dataset.test}
        for stream, (name, images) in enumerate(sets.items()):
            if not len(images):
                continue  # no validation set
            values = self._evaluate(images, self._settings.eval_samples, stream)
            self.printer.evaluation(name, step, list(values.values()))
            name = name.lower()
            record[name] = scalars[f"{name}/bound"] = values["bound"]
            record[f"{name}_elbo"] = scalars[f"{name}/elbo"] = values["elbo"]
        return record | {"eval_samples": self._settings.eval_samples}


def _log(variance: float) -> float:
    """Log of a variance: -inf for 0, nan where rounding or a shared mean makes it negative."""
    if variance == 0:
        return -math.inf
    return math.log(variance) if variance > 0 else math.nan
