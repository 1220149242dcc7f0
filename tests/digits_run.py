"""A tiny run on the 8x8 digits, for tests of what is done with a run's folder."""

from rebar import registry
from rebar.data import TASKS, load
from rebar.factory import make_learner
from rebar.hparams import HParams, Settings
from rebar.training.run import Run


def train(parent, task: str, steps: int, **changes):
    """Learner, data set and folder of a run of a few steps with two layers of four units."""
    hparams = HParams(**{"model": "SBNNVIL", "n_layer": 2, "n_hidden": 4, **changes}, task=task)
    data = load(task, parent)
    estimator = registry.make_estimator(hparams.model, hparams)
    learner = make_learner(hparams, estimator, data.mean, TASKS[task].conditional)
    folder = parent / f"run-{task}"
    settings = Settings(training_steps=steps, eval_freq=0)
    assert Run(learner, data, folder, hparams, settings).train() is None
    return learner, data, folder
