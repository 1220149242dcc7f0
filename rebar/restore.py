"""The trained model of a run's folder, for use outside training.

    model = rebar.load_model("/tmp/rebar/SBNDynamicRebar-digits-2x200-lr0.001-s0-...").model
    probabilities = model(images)

All that is needed lies in the run's newest whole checkpoint: the data set is not read again.
"""

import os
import warnings
from typing import NamedTuple

from rebar import registry
from rebar.data.sources import TASKS
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.factory import make_learner
from rebar.hparams import HParams
from rebar.models.categorical_vae import CategoricalVAE
from rebar.models.sbn import SigmoidBeliefNetwork
from rebar.runs import checkpoint


class Trained(NamedTuple):
    """What a run's folder holds.

    Attributes:
      model: Keras model with the trained weights.
      hparams: those of the run.
      step: steps done.
      estimator: the run's, with the control variates that it has learned.
    """

    model: SigmoidBeliefNetwork | CategoricalVAE
    hparams: HParams
    step: int
    estimator: Estimator


def load_model(folder: str | os.PathLike) -> Trained:
    """The model of a run as its newest whole checkpoint has it.

    Args:
      folder: of the run, WORKING_DIR/<name>; the train command prints it after "run:".

    Raises:
      RebarError: the folder holds no whole checkpoint, or one that this version of the program, or
        this program without the user's own estimators registered, cannot use.
    """
    if not isinstance(folder, str | os.PathLike):
        raise RebarError(
            f"load_model({folder!r}): must be the folder of a run; type e.g. "
            'rebar.load_model("runs/SBNDisARM-digits-...")'
        )
    found = checkpoint.latest(folder)
    if found is None:
        raise RebarError(
            f"no checkpoint in {os.fspath(folder)!r}; give the folder of a run, which the train "
            "command prints after 'run:'. A run writes its first checkpoint when it ends or after "
            "--save_seconds"
        )
    if "hparams" not in found.metadata or "input_mean" not in found.extra:
        raise RebarError(
            f"{found.path} does not hold the settings and the training mean of its model; go on "
            "with the run for one more epoch, so that it is written again"
        )
    registry.entry(found.metadata["hparams"]["model"])  # its message tells how to make one known
    # A run of before a hyperparameter was added is as one with its default.
    hparams = HParams.from_dict(HParams().to_dict() | found.metadata["hparams"])
    learner = make_learner(hparams, found.extra["input_mean"], TASKS[hparams.task].conditional)
    with warnings.catch_warnings():
        # Damaged checkpoints were told of above.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = checkpoint.restore(folder, learner.named_variables(), expected={})
    for member in getattr(learner.estimator, "estimators", [learner.estimator]):
        member.control_trained = found.step > 0
    return Trained(learner.model, hparams, found.step, learner.estimator)
