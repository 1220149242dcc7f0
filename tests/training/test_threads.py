"""Threads of a run: small steps take few, and a run among others keeps to its share."""

import pytest
import tensorflow as tf

from rebar.training import threads

SMALL, LARGE = (24, 200), (1000, 200)


@pytest.fixture
def set_to(monkeypatch):
    """What TensorFlow is told, without telling it."""
    told = {}
    config = tf.config.threading
    for name in ("intra_op", "inter_op"):
        monkeypatch.setattr(
            config,
            f"set_{name}_parallelism_threads",
            lambda number, name=name: told.__setitem__(name, number),
        )
    monkeypatch.setattr(threads, "cores", lambda: 16)
    return told


@pytest.mark.parametrize(
    ("arguments", "intra", "inter"),
    [
        ((0, False, *SMALL), 1, 2),
        ((0, False, *SMALL, 1), 1, 1),
        ((0, False, *SMALL, 8), 1, 2),
        ((0, True, *SMALL), 0, 0),
        ((0, True, *SMALL, 4), 4, 4),
        ((0, False, *LARGE), 0, 0),
        ((0, False, *LARGE, 4), 4, 4),
        ((3, False, *SMALL), 3, 0),
        ((3, True, *LARGE, 4), 3, 4),
    ],
)
def test_choice(set_to, arguments, intra, inter):
    chosen = threads.choose_threads(*arguments)
    assert chosen == set_to == {"intra_op": intra, "inter_op": inter}
