"""Train a model, and load the trained model of a run.

    run = rebar.train(model="SBNDisARM", task="digits", epochs=20, seed=0)
    run.history[["step", "elbo"]]
    probabilities = rebar.load_model(run.folder).model(images)

Each run is stored in WORKING_DIR/<name>; the same call resumes it. `load_model` reads its newest
intact checkpoint, and no data set.
"""

import dataclasses
import functools
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rebar import registry
from rebar.core import families
from rebar.data import ensure, load
from rebar.data.datasets import Dataset
from rebar.data.sources import task_of
from rebar.errors import RebarError, did_you_mean
from rebar.estimators.base import Estimator
from rebar.factory import make_learner
from rebar.hparams import HParams, Settings, completed, defaults, run_folder
from rebar.hparams.presets import preset
from rebar.plugins import with_plugins
from rebar.runs import checkpoint, environment
from rebar.runs.files import write_json
from rebar.runs.lock import check_run
from rebar.runs.records import MetricsFile
from rebar.training.run import Run
from rebar.training.threads import choose_threads
from rebar.types import Shapes, capability

_RECORDED = (
    *("training_steps", "epochs", "eval_freq", "eval_samples"),
    *("variance_freq", "variance_draws"),
)


class Trained(NamedTuple):
    """Trained model and its run.

    Attributes:
      model: Keras model with the trained weights; of `rebar.register_model`, that of its factory,
        or an `ObjectiveNetwork` with the attribute `source`.
      hparams: hyperparameters.
      step: number of training steps.
      estimator: estimator with its trained control variates.
      folder: folder of the run.
      signal: number of the signal that ended training early, or None.
      data: description of user-defined data, with its digest; else None.
    """

    model: Any
    hparams: HParams
    step: int
    estimator: Estimator
    folder: Path
    signal: int | None = None
    data: str | None = None

    @property
    def history(self):
        """One row per epoch, as a pandas data frame; nested records have names like "a.b"."""
        import pandas as pd

        return pd.json_normalize(MetricsFile(self.folder / "metrics.jsonl").read())


def train(hparams: str | Mapping[str, Any] = "", **settings: Any) -> Trained:
    """Train a model, or resume its run, and print the lines of the train command.

    Args:
      hparams: hyperparameters as a string or a mapping.
      **settings: hyperparameters (model, task, n_layer ...), which override those of `hparams`,
        and attributes of `rebar.hparams.Settings` (epochs, seed, working_dir ...).

    Returns:
      The trained model, with the run's history, estimator and folder.

    Raises:
      RebarError: an unknown name, an invalid value, missing data, or a failure of training.
    """
    fields = {field.name for field in dataclasses.fields(Settings)}

    def require_known():
        names = fields | {*defaults()}
        for name in set(settings) - names:
            raise RebarError(f"unknown setting {name!r}{did_you_mean(name, names)}")

    with_plugins(require_known)
    names = defaults()
    run = Settings(**{name: value for name, value in settings.items() if name in fields})
    changes = {name: value for name, value in settings.items() if name in names}
    parsed = HParams.parse(hparams, changes, preset=run.preset)
    ensure(parsed.task, run.data_dir, dynamic=parsed.dynamic_b)
    check_run(run_folder(run.working_dir, parsed, run.seed))
    return run_experiment(parsed, run)


def run_experiment(hparams: HParams, settings: Settings, data: Dataset | None = None) -> Trained:
    """Train with available data: load, build, resume or initialize, announce, train."""
    data = data or load(hparams.task, settings.data_dir, hparams.dynamic_b)
    pixels = data.train.shape[1]
    if hparams.n_input not in (0, pixels):
        raise RebarError(
            f"n_input={hparams.n_input}: images of task={hparams.task} have {pixels} pixels; "
            f"remove it, or set n_input={pixels}"
        )
    estimator = registry.make_estimator(hparams.model, hparams)
    jit = estimator.jit_pays if settings.jit == "auto" else settings.jit == "on"
    rows = hparams.batch_size * hparams.n_samples
    units = max(map(math.prod, hparams.layers)) if hparams.latents else hparams.n_hidden
    threads = choose_threads(settings.threads, jit, rows, units, settings.cores)
    conditional, seed = task_of(hparams.task).conditional, (settings.seed, hparams.trial)
    shape = data.image_shape
    learner = make_learner(hparams, estimator, data.mean, conditional, seed, image_shape=shape)
    about = {
        "label": hparams.entry.label,
        "network": hparams.network if hparams.custom_network else type(learner.model).__name__,
        "objective": capability(learner.model, "objective_name") + _followed(estimator, hparams),
        "unbiased": estimator.unbiased,
        "estimators": estimator_facts(hparams, estimator, families.shapes(learner.model)),
        "coupling": hparams.effective_coupling,
        "data": data.description,
        "jit": jit,
        "threads": threads,
        "schedule": {name: getattr(settings, name) for name in _RECORDED},
    }
    if hparams.plugins:
        about["plugins"] = hparams.plugins
    if outside := environment.settings():
        about["environment"] = outside
    if settings.preset is not None:
        about["preset"] = f"{settings.preset}: {preset(settings.preset)}"
    folder = run_folder(settings.working_dir, hparams, settings.seed)
    _announce(hparams, settings, about, folder)

    trained = Trained(learner.model, hparams, learner.steps, estimator, folder)
    draw = None
    if settings.draw:
        from rebar.analysis import pictures

        pictures.require_drawable(learner.model, data.test)
        draw = functools.partial(pictures.draw_step, trained, data)
    run = Run(learner, data, folder, hparams, settings, jit, draw)
    # Run() raises if the folder has a checkpoint of another configuration.
    content = {**run.identity, **about, "versions": environment.versions()}
    write_json(folder / "hparams.json", content)
    signal = run.train()
    return trained._replace(step=learner.steps, signal=signal)


def estimator_facts(hparams: HParams, estimator: Estimator, shapes: Shapes) -> dict[str, dict]:
    """Return label -> properties of each estimator of a run, for comparisons.

    "unbiased": for its objective, at the model that it is set up for; "evaluations": evaluations
    of f per step with a full minibatch, in full passes of one row (as in `estimator_variance`).
    """
    samples, batch = hparams.n_samples, hparams.batch_size
    return {
        name: {
            "unbiased": bool(e.unbiased),
            "evaluations": e.evaluations(shapes, e.own_samples or samples) * batch,
        }
        for name, e in estimator.members(hparams.entry.label).items()
    }


def _announce(hparams: HParams, settings: Settings, about: dict, folder: Path) -> None:
    """Print the settings that apply to the model, and a warning if no model was chosen."""
    if "model" not in hparams.typed:
        print(
            f"warning: no model given: training {hparams.model}, the default of 2017, whose "
            'gradient is biased; choose another one with e.g. --hparams="model=SBNDisARM"',
            file=sys.stderr,
        )
    if settings.log_format == "quiet":
        return
    print(hparams.applicable())
    for note in hparams.notes:
        print(f"note: {note}")
    print(f"seed: {settings.seed}")
    for name, value in about.items():
        print(f"{name}: {value}")
    print(f"run: {folder}")
    if about["jit"]:
        print("compiling takes a few seconds, longer when tracking many estimators")
    sys.stdout.flush()


def _followed(estimator: Estimator, hparams: HParams) -> str:
    """Return a suffix of the objective's name if another function is followed."""
    followed = estimator.members().get(hparams.follow, estimator)
    if not followed.follows_posterior:
        return "; followed: f at samples of another distribution than q"
    if estimator.objective != "bound":
        return ""
    chains = (followed.own_samples or hparams.n_samples) // estimator.samples_per_chain
    return f"; followed: its multi-sample bound, {chains} {'samples' if chains > 1 else 'sample'}"


def load_model(folder: str | os.PathLike) -> Trained:
    """Load the newest intact checkpoint of a run.

    Modules of plug-ins that the run used are imported again if they are not imported yet.

    Args:
      folder: folder of the run, WORKING_DIR/<name>, printed by the train command after "run:".

    Raises:
      RebarError: there is no intact checkpoint, it is incompatible with this version, or its
        estimator is not registered.
    """
    if not isinstance(folder, str | os.PathLike):
        raise RebarError(
            f"load_model({folder!r}): must be the folder of a run; use e.g. "
            'rebar.load_model("runs/SBNDisARM-digits-...")'
        )
    folder = os.path.expanduser(folder)
    saved = checkpoint.latest(folder)
    if saved is None:
        raise RebarError(
            f"no checkpoint in {os.fspath(folder)!r}; pass the folder of a run, which the train "
            "command prints after 'run:'. The first checkpoint is written at the end or after "
            "--save_seconds"
        )
    metadata = saved.metadata

    def saved_hparams():
        registry.entry(metadata["hparams"]["model"])  # raises for an estimator of a plug-in
        return HParams.from_dict(completed(metadata["hparams"]))

    hparams = with_plugins(saved_hparams, metadata.get("plugins"), str(folder))
    estimator = registry.make_estimator(hparams.model, hparams)
    conditional = task_of(hparams.task).conditional
    shape, mean = metadata.get("image_shape"), saved.extra["input_mean"]
    learner = make_learner(hparams, estimator, mean, conditional, image_shape=shape)
    checkpoint.assign(saved, learner.named_variables(), expected={})
    for member in estimator.members().values():
        member.control_trained = saved.step > 0
    data = metadata.get("data")
    return Trained(learner.model, hparams, saved.step, estimator, Path(folder), data=data)


def data_of(trained: Trained, data_dir: str | os.PathLike) -> Dataset:
    """Load the data of a loaded model. Raises RebarError if user-defined data have changed."""
    hparams = trained.hparams
    data = load(hparams.task, data_dir, hparams.dynamic_b)
    if trained.data not in (None, data.description):
        raise RebarError(
            f"task={hparams.task}: the images differ from those of the run {trained.folder}: "
            f"{data.description!r} instead of {trained.data!r}; restore them"
        )
    return data
