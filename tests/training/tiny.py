"""Tiny learners on a few random images, for tests of training."""

import contextlib

import numpy as np
import tensorflow as tf

from rebar import registry
from rebar.data.datasets import Dataset
from rebar.estimators.nvil import NVIL
from rebar.estimators.reinforce import Reinforce
from rebar.factory import make_learner
from rebar.hparams import HParams, Settings
from rebar.training.run import Run

PIXELS = 6


def images(n, seed=0):
    """[n, PIXELS] uint8, all different."""
    codes = np.random.default_rng(seed).permutation(2**PIXELS)[:n]
    return (codes[:, np.newaxis] >> np.arange(PIXELS) & 1).astype(np.uint8)


def dataset(n_train=10, n_valid=5, n_test=4):
    """A data set whose images are all different."""
    train, valid, test = np.split(images(n_train + n_valid + n_test), [n_train, n_train + n_valid])
    mean = train.mean(axis=0).astype(np.float32)
    return Dataset("tiny", train, valid, test, mean, (2, 3), "random images")


def parse(hparams=""):
    """Hyperparameters of a tiny learner and run."""
    return HParams.parse("model=SBNNVIL,n_hidden=3,learning_rate=0.01,batch_size=4", hparams)


def learner(hparams="", seed=0, mean=None):
    """A learner with three units a layer; `hparams` as on the command line."""
    settings = parse(hparams)
    mean = np.full(PIXELS, 0.5) if mean is None else mean
    estimator = registry.make_estimator(settings.model, settings)
    return make_learner(settings, estimator, mean, conditional=False, seed=seed)


def column(records, name):
    """Values [steps] of a metric or a variance of several `Records`."""
    names = [*records[0].metrics, *records[0].variances]
    return np.concatenate([r.table[:, names.index(name)] for r in records]).astype(np.float64)


_LEARNERS: dict = {}


def restarted(hparams):
    """The learner of these hparams as it was when new; made once, since tracing it takes seconds.

    It is the same object each time: take the `values` of one run before the next one starts.
    """
    if hparams not in _LEARNERS:
        made = learner(hparams)
        _LEARNERS[hparams] = made, values(made)
    made, initial = _LEARNERS[hparams]
    for name, variable in made.named_variables().items():
        variable.assign(initial[name])
    return made


def run(folder, data, hparams="", draw=None, say=print, **settings):
    """A run from the start, without evaluations unless `settings` ask for them."""
    settings = Settings(**{"eval_freq": 0, "eval_samples": 3, **settings})
    return Run(restarted(hparams), data, folder, parse(hparams), settings, draw=draw, say=say)


def values(learner):
    """Name -> array of everything that training changes."""
    return {name: np.array(v.numpy()) for name, v in learner.named_variables().items()}


def scalars(folder):
    """{(step, tag): value} of all event files; a step that was trained again has equal values."""
    found = {}
    for file in sorted(folder.glob("events*")):
        with contextlib.suppress(tf.errors.DataLossError):  # torn by a kill
            for content in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(content)
                for value in event.summary.value:
                    if value.metadata.plugin_data.plugin_name == "scalars":
                        scalar = float(tf.make_ndarray(value.tensor))
                        before = found.setdefault((event.step, value.tag), scalar)
                        assert repr(before) == repr(scalar)
    return found


def assert_same(first, second, **tolerance):
    """Two dictionaries of arrays agree: bit by bit, or up to a tolerance."""
    assert list(first) == list(second)
    for name, value in first.items():
        if tolerance:
            np.testing.assert_allclose(value, second[name], err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(value, second[name], err_msg=name)


class Broken(Reinforce):
    """REINFORCE whose gradient is not a number from step 7 on: it learns what step it is."""

    def setup(self, model, seed=0):
        self.clock = self.add_weight(shape=(), initializer="zeros", name="clock")

    def estimate(self, model, x, noise):
        # Adam goes down by its rate, 10 * 0.01, at each step with a gradient of 1.
        wrong = tf.where(tf.convert_to_tensor(self.clock) < -0.55, np.nan, 0.0)
        estimate = super().estimate(model, x, noise)
        return estimate._replace(
            gradients=[g + wrong for g in estimate.gradients], control_gradients=[tf.ones([])]
        )


RATES_OF_PARTS = {"output/kernel": (0.5, 0.8), "output": (3.0, 0.9)}


class Parts(NVIL):
    """NVIL whose baseline has separate rates for the weights of its last layer."""

    control_rates = RATES_OF_PARTS


def log_lines(text):
    """Printed text without the names of columns and the closing summary."""
    around = ("columns of Step: ", "finished: ", "folder: ", "draw samples: ", "compare runs: ")
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(around))
