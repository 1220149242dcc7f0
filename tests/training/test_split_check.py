"""What is compared before several workers begin: where they stand, what the estimator does."""

import pytest
import tensorflow as tf

from rebar.errors import RebarError
from rebar.estimators.nvil import NVIL
from rebar.training.split_check import check_split

from ..threaded import together
from . import tiny


@pytest.fixture
def eagerly():
    """Threads can meet in eager mode only."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


class Mixes(NVIL):
    """Divides by the RMS of f over the rows that it sees."""

    def estimate(self, model, x, noise):
        """See `Estimator`."""
        estimate = super().estimate(model, x, noise)
        rms = tf.sqrt(tf.reduce_mean(tf.square(estimate.objective)))
        return estimate._replace(gradients=[g / rms for g in estimate.gradients])


class Asks(Mixes):
    """Divides by the RMS over all rows."""

    def estimate(self, model, x, noise):
        """See `Estimator`."""
        estimate = NVIL.estimate(self, model, x, noise)
        (square,) = noise.share.mean([tf.reduce_mean(tf.square(estimate.objective))])
        return estimate._replace(gradients=[g / tf.sqrt(square) for g in estimate.gradients])


def check(kind, size=2):
    learner = tiny.learner("n_samples=2")
    estimator = kind()
    estimator.setup(learner.model)
    images = tiny.images(10)
    return together(size, lambda team: check_split(learner.model, estimator, images, 2, team))


@pytest.mark.usefixtures("eagerly")
def test_an_estimator_that_mixes_rows_is_refused():
    for error in check(Mixes):
        assert isinstance(error, RebarError)
        assert "Mixes gives other gradients when workers share a minibatch" in str(error)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("kind", [NVIL, Asks])
def test_one_that_does_not_or_that_asks_is_not(kind):
    assert check(kind, size=3) == [None, None, None]


def meet(steps=(7, 7, 7), settings=(b"a", b"a", b"a"), broken=()):
    """What each of three workers gets from `agreement`."""

    def work(team):
        compared = {"images": b"same", "settings": settings[team.index]}
        with team.agreement(compared, lambda: steps[team.index], "FOLDER"):
            if team.index in broken:
                raise OSError("no such disk")

    return together(3, work)


def test_workers_that_agree_begin():
    assert meet() == [None, None, None]


def test_a_worker_of_other_settings_is_named_by_all():
    for error in meet(settings=(b"a", b"a", b"b")):
        assert "workers differ in settings: worker 2 from the chief" in str(error)


def test_workers_that_do_not_share_a_folder_are_refused():
    for error in meet(steps=(10, 0, 10)):
        assert "at different steps: 10, 0, 10; all must see the chief's checkpoint" in str(error)
        assert "FOLDER" in str(error)


def test_a_worker_that_cannot_begin_ends_all():
    first, broken, last = meet(broken=[1])
    assert str(broken) == "no such disk"
    for error in (first, last):
        assert isinstance(error, RebarError)
        assert "worker 1 cannot start" in str(error)
