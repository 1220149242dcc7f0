"""Per-epoch reporting: log lines, metrics.jsonl, TensorBoard, pictures."""

import contextlib
import functools
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from rebar.analysis.variance import VarianceMeter, fixed_batch
from rebar.data.datasets import Dataset
from rebar.runs import events, records
from rebar.runs.printer import Printer
from rebar.training.evaluate import Evaluator
from rebar.training.learner import Learner
from rebar.training.moments import OF_PART
from rebar.training.schedule import Options


class Report:
    """Measures, prints and writes the state of a run at the ends of its epochs; see `Run`."""

    def __init__(
        self,
        learner: Learner,
        dataset: Dataset,
        folder: Path,
        options: Options,
        steps_per_epoch: int,
    ):
        self._learner = learner
        self._sets = {"Valid": dataset.valid, "Test": dataset.test}
        self._folder = folder
        self._options = options
        self._schedule = options.schedule
        self._steps_per_epoch = steps_per_epoch
        model, estimator, jit = learner.model, learner.estimator, options.jit
        self._evaluate = Evaluator(model, estimator, options.seed, jit)
        self._train, self._dynamic = dataset.train, dataset.dynamic
        self._metrics = records.MetricsFile(folder / "metrics.jsonl")

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
        step = self._learner.steps
        with (
            contextlib.closing(events.Events(self._folder)) as self._events,
            contextlib.closing(Printer(self._schedule.log_format, last, step)) as self.printer,
        ):
            if self._options.settings:
                self._events.hparams(self._options.settings, self._folder.name)
            self.begin_epoch()
            yield

    def begin_epoch(self) -> None:
        """Start the timer."""
        self._started = time.monotonic()

    def epoch(
        self, metrics: Mapping[str, float], variances: Mapping[str, float], last: bool
    ) -> None:
        """Print and write the means of an epoch; measure and evaluate if they are due.

        Args:
          metrics: "elbo", then those of the estimator.
          variances: see `Moments.values`.
          last: whether training ends here.
        """
        step = self._learner.steps
        logs = {label: _log(variance) for label, variance in variances.items()}
        of_q = {k.removesuffix(OF_PART): v for k, v in logs.items() if k.endswith(OF_PART)}
        log_variances = {k: v for k, v in logs.items() if not k.endswith(OF_PART)}
        log_variance = log_variances.get("", log_variances)
        measure = self._is_due(self._schedule.variance_freq)
        evaluate = self._is_due(self._schedule.eval_freq)
        self.printer.epoch(step, metrics, log_variance, last or measure or evaluate)
        record = {
            "step": step,
            "epoch": step / self._steps_per_epoch,
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
            images = self._options.draw(step) if self._options.draw else {}
        self._metrics.append(record)
        self.printer.end_epoch(record)
        self._events.scalars(step, scalars)
        self._events.images(step, images)

    @functools.cached_property
    def _measure(self):
        """Meter of the conditional variance at the fixed batch; estimators are compiled once."""
        model, estimator, options = self._learner.model, self._learner.estimator, self._options
        meter = VarianceMeter(model, estimator, options.n_samples, options.jit, options.label)
        batch = fixed_batch(self._train, options.batch_size, self._dynamic)
        return functools.partial(meter, batch)

    def _is_due(self, frequency):
        """Return True at multiples of `frequency` epochs; False for 0."""
        return frequency > 0 and self._learner.steps % (frequency * self._steps_per_epoch) == 0

    def _estimator_variance(self, step, scalars, alone):
        """Measure, print and return the conditional variances."""
        draws = self._schedule.variance_draws
        measured = self._measure(draws, self._options.seed, (step,))
        table = {label: values.record() for label, values in measured.items()}
        for label in sorted(table):
            self.printer.variance(step, label, table[label])
            parts = {part: _log(v) for part, v in measured[label].variance.items()}
            scalars |= events.estimator_variance_tags(parts, "" if alone else label)
        return {"estimator_variance": table, "variance_draws": draws}

    def _evaluation(self, step, scalars):
        """Print and return the bounds of the validation and test images."""
        record = {}
        for stream, (name, images) in enumerate(self._sets.items()):
            if not len(images):
                continue  # no validation set
            values = self._evaluate(images, self._schedule.eval_samples, stream)
            self.printer.evaluation(name, step, list(values.values()))
            name = name.lower()
            record[name] = scalars[f"{name}/bound"] = values["bound"]
            record[f"{name}_elbo"] = scalars[f"{name}/elbo"] = values["elbo"]
        return record | {"eval_samples": self._schedule.eval_samples}


def _log(variance: float) -> float:
    """Log of a variance: -inf for 0, nan where rounding or a shared mean makes it negative."""
    if variance == 0:
        return -math.inf
    return math.log(variance) if variance > 0 else math.nan
