"""A tiny run on the 8x8 digits, for tests of what is done with a run's folder."""

from rebar import registry
from rebar.data import TASKS, load
from rebar.factory import make_learner
from rebar.hparams import HParams
from rebar.training.run import Run, Schedule


def train(parent, task: str, steps: int, **changes):
    """Learner, data set and folder of a run of a few steps with two layers of four units."""
    settings = {"model": "SBNNVIL", "n_layer": 2, "n_hidden": 4, **changes}
    hparams = HParams(task=task, **settings)
    data = load(task, parent)
    estimator = registry.make_estimator(hparams.model, hparams)
    learner = make_learner(hparams, estimator, data.mean, TASKS[task].conditional)
    folder = parent / f"run-{task}"
    identity = {"hparams": hparams.to_dict(), "seed": 0}
    schedule = Schedule(training_steps=steps, eval_freq=0)
    run = Run(learner, data, folder, identity, batch_size=24, schedule=schedule)
    assert run.train() is None
    return learner, data, folder
