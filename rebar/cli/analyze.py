"""Bias and variance of gradient estimators at fixed parameters and images.

Examples:
  rebar-analyze --hparams="model=CatReinMax,task=digits_grey,n_categories=4,n_latents=3"
  rebar-analyze RUN_FOLDER --estimators=ST,ReinMax --hparams="temperature=1"
  rebar-analyze RUN_FOLDER/snapshots/* --figure=bias.png
  rebar-analyze --by=weights --hparams="model=SBNRebar,task=digits,n_hidden=8"

RUN_FOLDER is that of a run, which the train command prints after "run:", or one of the snapshots
that --keep_epochs made in it. Without one, a model is made from --hparams as a run would begin.
What the columns mean: docs/bias_and_variance.md.
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

_BY = (
    "What the gradient is by: the posterior logits of each image, or the weights of q; auto: "
    "logits for categorical models, else weights."
)


def _define_flags() -> flags.FlagValues:
    values = frame.flag_values()

    def define(kind, name, default, text, *choices, **limits):
        make = getattr(flags, f"DEFINE_{kind}")
        make(name, default, *choices, text, flag_values=values, **limits)

    define("multi_string", "hparams", "", "Settings of the estimators; without a run, also of it.")
    define("string", "preset", None, "hparams of a published protocol; hparams win.")
    define("string", "estimators", "", "Labels of estimators, e.g. ST,ReinMax; none: all.")
    define("enum", "by", "auto", _BY, ["auto", "logits", "weights"])
    define("integer", "draws", 1024, "Draws of each estimator.", lower_bound=20)
    define("integer", "batch_size", 0, "Images; 0: as in hparams.", lower_bound=0)
    define("enum", "reference", "exact", "What to compare with.", ["exact", "loo"])
    define("integer", "reference_draws", 1024, "Draws of --reference=loo.", lower_bound=20)
    define("integer", "reference_samples", 32, "Samples in each of these.", lower_bound=2)
    define("integer", "seed", 0, "Seed of all randomness.", lower_bound=0, upper_bound=2**32 - 1)
    define(
        "string", "output", None, "JSON file; else analysis.json in a single RUN_FOLDER, or here."
    )
    define("string", "figure", None, "Figure over the checkpoints, .png or .pdf.")
    define("string", "data_dir", "data", "Folder of the data sets.")
    define("boolean", "jit", False, "Compile with XLA: seconds more at the start of each.")
    define("integer", "threads", 0, "Threads an operation; 0: TensorFlow's choice.", lower_bound=0)
    define("list", "plugins", "", "Python modules to import that register models of yours.")
    return values


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status, see frame.run."""
    return frame.run(_define_flags, _analyze, argv or sys.argv, __doc__)


def _analyze(values, arguments) -> None:
    """Measure at every checkpoint, print, write."""
    import_plugins(values.plugins)
    folders = [Path(name) for name in arguments]
    if folders and values.preset is not None:
        raise RebarError("a run has its own settings; leave out --preset, or the RUN_FOLDER")
    changes = list(filter(None, values.hparams))
    if not (folders or changes or values.preset):
        raise RebarError(
            "give the folders of runs, or --hparams or --preset of a model that is not trained, "
            'e.g. rebar-analyze --hparams="model=CatReinMax,task=digits_grey,n_latents=3"'
        )
    base = [] if values.preset is None else [preset(values.preset)]
    settings = None if folders else HParams.parse(*base, *changes)
    with quiet_start():
        import tensorflow as tf

        from rebar.analysis import bias_figure, pictures
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
        records.append(analyses.measure(subject))
        write_json(output, {"analyses": records})
    print(f"written: {output}")
    if values.figure is not None:
        first = records[0]
        hparams = first["hparams"]
        title = (
            f"{task_title(hparams['task'], hparams['dynamic_b'])}, {hparams['model']}: gradient "
            f"w.r.t. {first['by']}, {first['batch_size']} images, {first['draws']} draws"
        )
        pictures.save(bias_figure.figure(records, title), values.figure)
        print(f"written: {values.figure}")


class _Analyses:
    """Analyses one subject after the other; those that differ by their weights share one graph."""

    def __init__(self, values):
        self._values = values
        self._first = None
        self._analyser = None

    def measure(self, subject) -> dict:
        """Measure, print the table, return the record."""
        from rebar.analysis import report
        from rebar.cli.subjects import take_over

        if self._first is not None and subject.hparams == self._first.hparams:
            take_over(self._first, subject)
        else:
            self._start(subject)
        found = self._analyser()
        hparams = subject.hparams
        place = f"{subject.folder}, " if subject.folder else "not trained, "
        epoch = subject.step / self._steps_per_epoch
        record = {
            "title": f"{place}model={hparams.model}, task={hparams.task}, "
            f"temperature={hparams.temperature:g}, step {subject.step} (epoch {epoch:.4g})",
            "folder": str(subject.folder) if subject.folder else None,
            "step": subject.step,
            "epoch": epoch,
            "hparams": hparams.to_dict(),
            **found,
        }
        print(report.table(record), end="\n\n", flush=True)
        return report.plain(record)

    def _start(self, subject):
        """An analyser for a subject and those like it."""
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
