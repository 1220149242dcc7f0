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
from typing import Any

from absl import flags

from rebar.cli import frame
from rebar.cli.plugins import import_plugins
from rebar.cli.quiet import quiet_start
from rebar.data import load
from rebar.data.sources import TASKS, task_title
from rebar.errors import RebarError
from rebar.hparams import HParams
from rebar.hparams.presets import preset

_CHANGEABLE = (
    *("temperature", "n_samples", "muprop_relaxation", "quadratic", "coupling"),
    *("continuation", "symmetrized", "multi_sample", "legacy2017", "mc_samples", "gst_gap"),
    *("cv_scale", "cv_form", "rk2_beta", "rk2_form"),
)
"""Hyperparameters of estimators, which may differ from those of a run."""

_load = functools.cache(load)


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
        upper_bound=1024,
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
        from rebar.runs.files import write_json
        from rebar.runs.records import plain
    if values.figure is not None:
        pictures.suffix(values.figure)
    if values.threads:
        tf.config.threading.set_intra_op_parallelism_threads(values.threads)
    output = values.output or (folders[0] if len(folders) == 1 else Path()) / "analysis.json"
    records: list[dict] = []
    first: Any = None
    for folder in folders or [None]:
        subject = _trained(folder, changes) if folder else _untrained(settings, values)
        if first is None or _kind(subject) != _kind(first):
            first = subject
            data = _load(subject.hparams.task, values.data_dir, subject.hparams.dynamic_b)
            analyzer = _analyzer(values, subject, data)
        else:  # the same graph with other weights
            for variable, value in zip(_variables(first), _variables(subject), strict=True):
                variable.assign(value)
        epoch = subject.step / -(-len(data.train) // subject.hparams.batch_size)
        record = {**_about(subject, epoch), **analyzer()}
        records.append(plain(record))
        write_json(output, {"analyses": records})
        if values.figure is not None:
            pictures.save(bias_figure.figure(records, _title(records[0])), values.figure)
        print(report.table(record), end="\n\n", flush=True)
    for path in filter(None, (output, values.figure)):
        print(f"written: {path}")


def _untrained(hparams, values):
    """The initial model of a run."""
    from rebar.experiment import Trained
    from rebar.factory import make_model

    mean = _load(hparams.task, values.data_dir, hparams.dynamic_b).mean
    seed = (values.seed, hparams.trial)
    model = make_model(hparams, mean, TASKS[hparams.task].conditional, seed)
    return Trained(model, hparams, 0, None, None)


def _trained(folder, changes):
    """The newest checkpoint in a folder; without its estimator if settings are changed.

    Raises:
      RebarError: see `load_model`; or the model depends on a changed setting.
    """
    from rebar.experiment import load_model

    trained = load_model(folder)
    hparams = HParams.parse(trained.hparams.format(), *changes)
    new = hparams.to_dict()
    fixed = [
        name
        for name, value in trained.hparams.to_dict().items()
        if name not in _CHANGEABLE and value != new[name]
    ]
    if fixed:
        raise RebarError(
            f"--hparams: {', '.join(fixed)} cannot be changed, since {folder} was trained with "
            f"other values; change only {', '.join(_CHANGEABLE)}, and choose estimators by "
            "--estimators"
        )
    changed = hparams != trained.hparams
    return trained._replace(hparams=hparams, estimator=None if changed else trained.estimator)


def _analyzer(values, trained, data):
    """The analyzer of a model on a batch of its training images."""
    import tensorflow as tf

    from rebar.analysis.analyzer import Analyzer
    from rebar.analysis.variance import fixed_batch

    hparams, model = trained.hparams, trained.model
    if values.batch_size > len(data.train):
        raise RebarError(
            f"--batch_size={values.batch_size}: there are {len(data.train)} training images"
        )
    batch = fixed_batch(data.train, values.batch_size or hparams.batch_size, data.dynamic)
    by = values.by
    if by == "auto":
        by = "logits" if hparams.entry.latents == "categorical" else "weights"
    names = ("draws", "reference", "reference_draws", "reference_samples", "seed", "jit")
    return Analyzer(
        model,
        tf.cast(batch, model.compute_dtype),
        hparams,
        list(filter(None, values.estimators.strip("[]").split(","))),
        trained.estimator and trained.estimator.members(hparams.entry.label),
        by=by,
        **{name: values[name].value for name in names},
    )


def _about(trained, epoch) -> dict:
    """The part of a record that describes the model."""
    hparams, folder = trained.hparams, trained.folder
    return {
        "title": f"{folder or 'not trained'}, model={hparams.model}, task={hparams.task}, "
        f"temperature={hparams.temperature:g}, step {trained.step} (epoch {epoch:.4g})",
        "folder": str(folder) if folder else None,
        "step": trained.step,
        "epoch": epoch,
        "hparams": hparams.to_dict(),
    }


def _title(record):
    hparams = record["hparams"]
    return (
        f"{task_title(hparams['task'], hparams['dynamic_b'])}, {hparams['model']}: gradient "
        f"w.r.t. {record['by']}, {record['batch_size']} images, {record['draws']} draws"
    )


def _kind(trained):
    """Equal for models that differ in weights only."""
    return trained.hparams, trained.estimator is None


def _variables(trained):
    learned = () if trained.estimator is None else trained.estimator.variables
    return [*trained.model.variables, *learned]


if __name__ == "__main__":
    sys.exit(main())
