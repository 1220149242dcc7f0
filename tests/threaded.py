"""Workers that are threads of this process, for tests: they meet at a barrier, in eager mode."""

import concurrent.futures
import threading

import numpy as np
import tensorflow as tf

from rebar.training.workers import Team

PATIENCE = 60


class ThreadTeam(Team):
    """What a worker sees of the others; `together` makes them."""

    def __init__(self, index: int, given: list, barrier: threading.Barrier):
        self.index = index
        self.size = len(given)
        self._given = given
        self._barrier = barrier

    def _meet(self, value) -> list:
        """What all have given."""
        self._given[self.index] = value
        self._barrier.wait()
        all_values = list(self._given)
        self._barrier.wait()
        return all_values

    def sum(self, values):
        """See `Team`."""
        return [tf.add_n(list(v)) for v in zip(*self._meet(values), strict=True)]

    def table(self, row):
        """See `Team`."""
        return np.array(self._meet(row), dtype=np.float64)


def together(size: int, work) -> list:
    """What `work(team)` returns, or the exception that it raises, in each of so many threads."""
    barrier = threading.Barrier(size, timeout=PATIENCE)
    given = [None] * size
    with concurrent.futures.ThreadPoolExecutor(size) as pool:
        waiting = [pool.submit(work, ThreadTeam(i, given, barrier)) for i in range(size)]
    return [future.exception() or future.result() for future in waiting]
