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

import sys
from pathlib import Path

from absl import flags

from rebar.cli import frame
from rebar.data import load
from rebar.data.sources import task_of, task_title
from rebar.errors import RebarError
from rebar.hparams import HParams
from rebar.hparams.fields import OF_ESTIMATORS
from rebar.hparams.grammar import split
from rebar.plugins import import_plugins, with_plugins
from rebar.runs.quiet import quiet_start


def define_flags() -> flags.FlagValues:
    """The command's own flags, not parsed yet."""
    values = frame.flag_values()
    define = frame.definer(values)
    define("multi_string", "hparams", [], "Hyperparameters; of a run, those of its estimators.")
    define("string", "preset", None, "hparams of a published protocol; --hparams override them.")
    define("string", "estimators", "", "Labels of estimators, e.g. ST,ReinMax; by default all.")
    by = (
        "Differentiate with respect to the posterior logits of each image (default for categorical "
        "models), or the weights of q."
    )
    define("enum", "by", None, by, enum_values=["logits", "weights"])
    define("integer", "draws", 1024, "Noise draws per estimator.", lower_bound=20)
    define("integer", "batch_size", 0, "Number of images; 0 uses that of hparams.", lower_bound=0)
    reference = "Reference gradient: exact, or the mean of --draws leave-one-out estimates."
    define("enum", "reference", "exact", reference, enum_values=["exact", "loo"])
    define("integer", "seed", 0, "Seed of all randomness.", lower_bound=0, upper_bound=2**32 - 1)
    output = "JSON file; by default analysis.json in a single RUN_FOLDER, else in this folder."
    define("string", "output", None, output)
    define("string", "figure", None, "File of a figure over the checkpoints, .png or .pdf.")
    define("string", "data_dir", "data", "Folder of the data sets.")
    define("boolean", "jit", False, "Compile with XLA; takes seconds per estimator.")
    define("list", "plugins", "", frame.PLUGINS)
    return values


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status, see frame.run."""
    return frame.run(define_flags, _analyze, argv or sys.argv, __doc__)


def _analyze(values, arguments) -> None:
    """Measure at every checkpoint; write, then print, so that `| head` loses nothing."""
    import_plugins(values.plugins)
    folders = [Path(name) for name in arguments]
    if not (folders or values.hparams or values.preset):
        raise RebarError(
            "give the folders of runs, or --hparams or --preset of an untrained model, "
            'e.g. rebar-analyze --hparams="model=CatReinMax,task=digits_grey,n_latents=3"'
        )
    if folders and values.preset is not None:
        raise RebarError(
            f"--preset={values.preset}: a run has its own settings; remove --preset or RUN_FOLDER"
        )
    settings = None if folders else HParams.parse(*values.hparams, preset=values.preset)
    with quiet_start():
        from rebar.analysis import bias_figure, pictures, report
        from rebar.runs.files import write_json
        from rebar.runs.records import plain
    if values.figure is not None:
        pictures.suffix(values.figure)
    output = values.output or (folders[0] if len(folders) == 1 else Path()) / "analysis.json"
    records: list[dict] = []
    for folder in folders or [None]:
        record = _record(values, folder, settings)
        records.append(plain(record))
        write_json(output, {"analyses": records})
        if values.figure is not None:
            pictures.save(bias_figure.figure(records, _title(records[0])), values.figure)
        print(report.table(record), end="\n\n", flush=True)
    for path in filter(None, (output, values.figure)):
        print(f"written: {path}")


def _record(values, folder, settings) -> dict:
    """Analyze the newest checkpoint in a folder, or the initial model of settings.

    Raises:
      RebarError: see `load_model` and `analyze`; or the model depends on a changed setting.
    """
    import tensorflow as tf

    from rebar.analysis.analyzer import analyze
    from rebar.analysis.variance import fixed_batch
    from rebar.experiment import data_of, load_model
    from rebar.factory import make_model

    trained = load_model(folder) if folder else None
    hparams = _changed(trained.hparams, values.hparams, folder) if trained else settings
    learned, step = {}, 0
    if trained:
        data = data_of(trained, values.data_dir)
        model, step = trained.model, trained.step
        if hparams == trained.hparams:
            learned = trained.estimator.members(hparams.entry.label)
    else:
        data = load(hparams.task, values.data_dir, hparams.dynamic_b)
        seed = (values.seed, hparams.trial)
        conditional = task_of(hparams.task).conditional
        model = make_model(hparams, data.mean, conditional, seed, data.image_shape)
    batch = fixed_batch(data.train, values.batch_size or hparams.batch_size, data.dynamic)
    categorical = not (hparams.belief_network or hparams.custom_network)
    by = values.by or ("logits" if categorical else "weights")
    epoch = step / -(-len(data.train) // hparams.batch_size)
    return {
        "title": f"{folder or 'not trained'}, model={hparams.model}, task={hparams.task}, "
        f"temperature={hparams.temperature:g}, step {step} (epoch {epoch:.4g})",
        "folder": str(folder) if folder else None,
        "step": step,
        "epoch": epoch,
        "hparams": hparams.to_dict(),
        **with_plugins(
            lambda: analyze(
                model,
                tf.cast(batch, model.compute_dtype),
                hparams,
                split(values.estimators),
                learned,
                by=by,
                **{name: values[name].value for name in ("draws", "reference", "seed", "jit")},
            )
        ),
    }


def _changed(old: HParams, changes, folder) -> HParams:
    """Change the settings of a run; those of its model must remain."""
    hparams = HParams.parse(old.format(), *changes)
    new = hparams.to_dict()
    changeable = (*OF_ESTIMATORS, *dict(old.custom))
    fixed = [n for n, v in old.to_dict().items() if n not in changeable and v != new.get(n)]
    if fixed:
        raise RebarError(
            f"--hparams: {', '.join(fixed)} cannot be changed, since {folder} was trained with "
            f"other values; change only {', '.join(changeable)}, and choose estimators by "
            "--estimators"
        )
    return hparams


def _title(record):
    hparams = record["hparams"]
    return (
        f"{task_title(hparams['task'], hparams['dynamic_b'])}, {hparams['model']}: gradient "
        f"w.r.t. {record['by']}, {record['batch_size']} images, {record['draws']} draws"
    )


if __name__ == "__main__":
    sys.exit(main())
