"""What a process of tests/training/test_workers.py does; a worker if TF_CONFIG is set.

    python -m tests.training.worker_main FILE

Trains each case for a few steps in float64 and writes records and variables to an .npz file.
"""

import os
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
    "unsynchronised": "model=SBN",
    "own variances": "model=SBN",
}
"""Name -> hparams. The last two are faults: a worker with noise of its own, and moments of each
worker's own gradient, averaged afterwards."""

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
        own = gradients.mean_square(held["own"].gradients)
        update(tracked, {"": held["share"].mean([own])[0]})

    learner.estimator.estimate, learner.moments.update = estimate, wrong


def train(name, hparams, team):
    """Records [steps, columns] and variables by name."""
    learner = tiny.learner(hparams)
    seed = 3
    if team is not None and name == "unsynchronised":
        seed += team.index
    if team is not None and name == "own variances":
        own_moments(learner)
    blocks = Blocks(learner, tiny.images(IMAGES), BATCH, seed=seed, team=team)
    step, table = 0, []
    while step < STEPS:
        count = blocks.next_count(step, STEPS - step)
        taken = blocks.take(step, count)
        table.append(np.stack([*taken.metrics.values(), *taken.variances.values()], axis=1))
        step += count
    return np.concatenate(table), tiny.values(learner)


def main(path):
    """Train all cases and write them down."""
    keras.config.set_dtype_policy("float64")
    team = workers.join() if "TF_CONFIG" in os.environ else None
    arrays = {}
    for name, hparams in CASES.items():
        table, variables = train(name, hparams, team)
        arrays[f"{name}|table"] = table
        arrays |= {f"{name}|{key}": value for key, value in variables.items()}
    np.savez(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
