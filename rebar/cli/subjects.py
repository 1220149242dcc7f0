"""Models to analyze: checkpoints of runs, or an untrained one."""

from pathlib import Path
from typing import NamedTuple

from rebar.data.sources import TASKS
from rebar.errors import RebarError
from rebar.experiment import Trained, load_model
from rebar.factory import make_model
from rebar.hparams import HParams

SETTINGS = (
    *("temperature", "n_samples", "muprop_relaxation", "quadratic", "coupling"),
    *("continuation", "symmetrized", "multi_sample", "legacy2017", "mc_samples", "gst_gap"),
    *("cv_scale", "cv_form", "rk2_beta", "rk2_form"),
)
"""Hyperparameters that may differ from those of the run: the model does not depend on them."""


class Subject(NamedTuple):
    """A model to analyze.

    Attributes:
      folder: of the checkpoint; None if there is none.
      model: with its weights.
      hparams: those of the run, with the user's changes.
      step: steps done.
      learned: label -> estimator with what the run has learned; empty if settings were changed.
    """

    folder: Path | None
    model: object
    hparams: HParams
    step: int
    learned: dict


def fresh(hparams: HParams, mean, seed: int) -> Subject:
    """The initial model of a run with these hyperparameters and seed."""
    conditional = TASKS[hparams.task].conditional
    model = make_model(hparams, mean, conditional, (seed, hparams.trial))
    return Subject(None, model, hparams, 0, {})


def of_run(folder: Path, changes: list[str]) -> Subject:
    """The newest checkpoint in a folder.

    Args:
      folder: of a run, or one of its snapshots.
      changes: --hparams strings.

    Raises:
      RebarError: see `load_model`; or a change is of what the model was built with.
    """
    trained = load_model(folder)
    hparams = HParams.parse(trained.hparams.format(), *changes)
    fixed = [
        name
        for name, value in trained.hparams.to_dict().items()
        if name not in SETTINGS and value != hparams.to_dict()[name]
    ]
    if fixed:
        raise RebarError(
            f"--hparams: {', '.join(fixed)} cannot be changed, since {folder} was trained with "
            f"other values; change only {', '.join(SETTINGS)}, and choose estimators by "
            "--estimators"
        )
    learned = _learned(trained) if hparams == trained.hparams else {}
    return Subject(folder, trained.model, hparams, trained.step, learned)


def _learned(trained: Trained) -> dict:
    """Label -> estimator of a run: several if it tracked them."""
    estimator = trained.estimator
    if trained.hparams.entry.tracks:
        return dict(zip(estimator.labels, estimator.estimators, strict=True))
    return {trained.hparams.entry.label: estimator}


def take_over(first: Subject, later: Subject) -> None:
    """Give the first subject's model and estimators the weights of a later one like it."""
    pairs = [(first.model, later.model)]
    pairs += [(estimator, later.learned[label]) for label, estimator in first.learned.items()]
    for old, new in pairs:
        for variable, value in zip(old.variables, new.variables, strict=True):
            variable.assign(value)
