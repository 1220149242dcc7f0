"""Bias and variance of gradient estimators at fixed parameters and images.

Examples:
  rebar-analyze --hparams="model=CatReinMax,task=digits_grey,n_categories=4,n_latents=3"
  rebar-analyze RUN_FOLDER --estimators=ST,ReinMax --hparams="temperature=1"
  rebar-analyze RUN_FOLDER/snapshots/* --figure=bias.png
  rebar-analyze --by=weights --hparams="model=SBNRebar,task=digits,n_hidden=8"

RUN_FOLDER is the folder of a run, which the train command prints after "run:", or one of the
snapshots that --keep_epochs stored in it. Without one, the untrained model of --hparams is
analyzed. docs/bias_and_variance.md describes the columns.
"""

import functools
import sys
from pathlib import Path

from absl import flags

from rebar.cli import frame
from rebar.cli.plugins import import_plugins
from rebar.cli.quiet import quiet_start
from rebar.data import load
from rebar.data.sources import task_title
from rebar.errors import RebarError
from rebar.hparams import HParams
from rebar.hparams.presets import preset


def define_flags() -> flags.FlagValues:
    """The command's own flags, not parsed yet."""
    values = frame.flag_values()
    define = frame.definer(values)
    define("multi_string", "hparams", "", "Hyperparameters; of a run, those of its estimators.")
    define("string", "preset", None, "hparams of a published protocol; --hparams override them.")
    define("string", "estimators", "", "Labels of estimators, e.g. ST,ReinMax; by default all.")
    define(
        "enum",
        "by",
        "auto",
        "Differentiate with respect to the posterior logits of each image, or the weights of q; "
        "auto uses logits for categorical models, else weights.",
        enum_values=["auto", "logits", "weights"],
    )
    define("integer", "draws", 1024, "Noise draws per estimator.", lower_bound=20)
    define("integer", "batch_size", 0, "Number of images; 0 uses that of hparams.", lower_bound=0)
    reference = "Reference gradient: exact, or the mean of leave-one-out estimates."
    define("enum", "reference", "exact", reference, enum_values=["exact", "loo"])
    define("integer", "reference_draws", 1024, "Noise draws of --reference=loo.", lower_bound=20)
    define("integer", "reference_samples", 32, "Samples per draw of these.", lower_bound=2)
    define("integer", "seed", 0, "Seed of all randomness.", lower_bound=0, upper_bound=2**32 - 1)
    output = "JSON file; by default analysis.json in a single RUN_FOLDER, else in this folder."
    define("string", "output", None, output)
    define("string", "figure", None, "File of a figure over the checkpoints, .png or .pdf.")
    define("string", "data_dir", "data", "Folder of the data sets.")
    define("boolean", "jit", False, "Compile with XLA; takes seconds per estimator.")
    define(
        "integer",
        "threads",
        0,
        "Intra-op threads; 0 leaves the choice to TensorFlow.",
        lower_bound=0,
    )
    define("list", "plugins", "", frame.PLUGINS)
    return values


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status, see frame.run."""
    return frame.run(define_flags, _analyze, argv or sys.argv, __doc__)


def _analyze(values, arguments) -> None:
    """Measure at every checkpoint; write, then print, so that `| head` loses nothing."""
    import_plugins(values.plugins)
    folders = [Path(name) for name in arguments]
    if folders and values.preset is not None:
        raise RebarError(
            f"--preset={values.preset}: a run has its own settings; remove --preset or RUN_FOLDER"
        )
    changes = list(filter(None, values.hparams))
    if not (folders or changes or values.preset):
        raise RebarError(
            "give the folders of runs, or --hparams or --preset of an untrained model, "
            'e.g. rebar-analyze --hparams="model=CatReinMax,task=digits_grey,n_latents=3"'
        )
    base = [] if values.preset is None else [preset(values.preset)]
    settings = None if folders else HParams.parse(*base, *changes)
    with quiet_start():
        import tensorflow as tf

        from rebar.analysis import bias_figure, pictures, report
        from rebar.cli import subjects
        from rebar.runs.files import write_json
    if values.figure is not None:
        pictures.suffix(values.figure)
    if values.threads:
        tf.config.threading.set_intra_op_parallelism_threads(values.threads)
    home = folders[0] if len(folders) == 1 else Path()
    output = values.output or home / "analysis.json"
    analyses = _Analyses(values)
    records = []
    for folder in folders or [None]:
        if folder is None:
            data = _load(settings.task, values.data_dir, settings.dynamic_b)
            subject = subjects.fresh(settings, data.mean, values.seed)
        else:
            subject = subjects.of_run(folder, changes)
        found = analyses.measure(subject)
        records.append(report.plain(found))
        write_json(output, {"analyses": records})
        if values.figure is not None:
            pictures.save(bias_figure.figure(records, _title(records[0])), values.figure)
        print(report.table(found), end="\n\n", flush=True)
    print(f"written: {output}")
    if values.figure is not None:
        print(f"written: {values.figure}")


def _title(record):
    hparams = record["hparams"]
    return (
        f"{task_title(hparams['task'], hparams['dynamic_b'])}, {hparams['model']}: gradient "
        f"w.r.t. {record['by']}, {record['batch_size']} images, {record['draws']} draws"
    )


class _Analyses:
    """Analyzes one subject after another; those that differ only in their weights share a graph."""

    def __init__(self, values):
        self._values = values
        self._first = None
        self._analyser = None

    def measure(self, subject) -> dict:
        """Measure, return the record."""
        from rebar.cli.subjects import take_over

        if self._first is not None and subject.hparams == self._first.hparams:
            take_over(self._first, subject)
        else:
            self._start(subject)
        found = self._analyser()
        hparams = subject.hparams
        place = f"{subject.folder}, " if subject.folder else "not trained, "
        epoch = subject.step / self._steps_per_epoch
        return {
            "title": f"{place}model={hparams.model}, task={hparams.task}, "
            f"temperature={hparams.temperature:g}, step {subject.step} (epoch {epoch:.4g})",
            "folder": str(subject.folder) if subject.folder else None,
            "step": subject.step,
            "epoch": epoch,
            "hparams": hparams.to_dict(),
            **found,
        }

    def _start(self, subject):
        """Build the analyzer of a subject and those like it."""
        import tensorflow as tf

        from rebar.analysis.analyser import Analyser, Settings
        from rebar.analysis.variance import fixed_batch

        values, hparams = self._values, subject.hparams
        data = _load(hparams.task, values.data_dir, hparams.dynamic_b)
        if values.batch_size and values.batch_size > len(data.train):
            raise RebarError(
                f"--batch_size={values.batch_size}: there are {len(data.train)} training images"
            )
        batch = fixed_batch(data.train, values.batch_size or hparams.batch_size, data.dynamic)
        by = values.by
        if by == "auto":
            by = "logits" if hasattr(subject.model, "latent_shape") else "weights"
        settings = Settings(
            by=by,
            draws=values.draws,
            reference=values.reference,
            reference_draws=values.reference_draws,
            reference_samples=values.reference_samples,
            seed=values.seed,
            jit=values.jit,
        )
        self._first = subject
        self._steps_per_epoch = -(-len(data.train) // hparams.batch_size)
        self._analyser = Analyser(
            subject.model,
            tf.cast(batch, subject.model.compute_dtype),
            hparams,
            list(filter(None, values.estimators.strip("[]").split(","))),
            subject.learned,
            settings,
        )


@functools.cache
def _load(task, data_dir, dynamic):
    return load(task, data_dir, dynamic)


if __name__ == "__main__":
    sys.exit(main())
