"""What a worker of tests/training/test_workers.py does.

    TF_CONFIG=... python -m tests.training.worker_main FILE

Trains each case for a few steps in float64 and writes records and variables to an .npz file.
"""

import sys

import keras
import numpy as np

from rebar.core import gradients
from rebar.training import workers
from rebar.training.blocks import Blocks

from . import tiny

CASES = {
    "REINFORCE": "model=SBN",
    "DynamicREBAR": "model=SBNDynamicRebar,n_layer=2",
}
FAULTS = {"unsynchronised": "model=SBN", "own variances": "model=SBN"}
"""Name -> hparams. The faults, of workers only: noise of one's own, and moments of each worker's
own gradient, averaged afterwards."""

STEPS = 20
IMAGES, BATCH = 11, 5  # two minibatches of 5 and one of a single image, which all workers take


def own_moments(learner):
    """Make the learner remember the squares of its own part's gradient; their mean is shared."""
    estimate_part = learner.estimator.estimate
    update = learner.moments.update
    held = {}

    def estimate(model, x, noise):
        held["share"] = noise.share
        held["own"] = estimate_part(model, x, noise)
        return held["own"]

    def wrong(tracked, squares):
        own = gradients.sums_of_squares(held["own"].gradients)
        update(tracked, {"": held["share"].mean(own)})

    learner.estimator.estimate, learner.moments.update = estimate, wrong


def train(name, hparams, team):
    """Records [steps, columns] and variables by name."""
    learner = tiny.learner(hparams)
    seed = 3
    if name == "unsynchronised":
        seed += team.index
    if name == "own variances":
        own_moments(learner)
    blocks = Blocks(learner, tiny.images(IMAGES), BATCH, seed=seed, team=team)
    step, table = 0, []
    while step < STEPS:
        count = blocks.next_count(step, STEPS - step)
        taken = blocks.take(step, count)
        table.append(np.stack([*taken.metrics.values(), *taken.variances.values()], axis=1))
        step += count
    return np.concatenate(table), tiny.values(learner)


def train_all(team):
    """Tables and variables of all cases by name; team: None for a single process."""
    arrays = {}
    for name, hparams in (CASES | FAULTS if team else CASES).items():
        table, variables = train(name, hparams, team)
        arrays[f"{name}|table"] = table
        arrays |= {f"{name}|{key}": value for key, value in variables.items()}
    return arrays


def main(path):
    """Be a worker that trains all cases and writes them down."""
    keras.config.set_dtype_policy("float64")
    np.savez(path, **train_all(workers.join()))


if __name__ == "__main__":
    main(sys.argv[1])
