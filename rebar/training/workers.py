"""Several processes for one run: each estimates from a part of every minibatch.

A step is a function of (seed, step) alone, so each worker keeps a plain copy of all variables.
All begin equal; at a step each takes its images of the minibatch with the noise that they have in
a run of one process, the means over its rows are averaged over the workers, and all apply the same
update. What crosses the network is one vector a step: the gradients and the numbers of the record.

The processes find each other through TF_CONFIG, as TensorFlow defines it, and the sums are those of
tf.distribute.MultiWorkerMirroredStrategy. Its mirrored variables are not used: Keras 3 optimizers
do not update them.

A collective sum cannot be compiled with XLA; steps of several workers are not.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from rebar.errors import RebarError
from rebar.noise import Part

JOIN_SECONDS = 300
"""How long a worker waits for the others at the start."""

_WATCH = """
import os, select, signal, sys
pid, seconds, reason = sys.argv[1:]
if not select.select([sys.stdin], [], [], float(seconds))[0]:  # it is closed when all is well
    print(reason, file=sys.stderr, flush=True)
    os.kill(int(pid), signal.SIGKILL)
"""


class Team:
    """The workers of a run, seen from one of them. `join` makes one.

    Args:
      strategy: of tf.distribute, with one replica in this process.
      index: of this worker; 0 is the chief, which writes all files and lines.
      size: number of workers.
    """

    def __init__(self, strategy, index: int, size: int):
        self._strategy = strategy
        self.index = index
        self.size = size
        self._gather = tf.function(self._all_sum, autograph=False)

    def part(self, images: int) -> Part:
        """This worker's part of a minibatch.

        Where there are fewer images than workers, every worker takes all of them.
        """
        if images < self.size:
            return Part(0, images, images, 1 / self.size, self.sum)
        first, end = (i * images // self.size for i in (self.index, self.index + 1))
        return Part(first, end - first, images, (end - first) / images, self.sum)

    def sum(self, values) -> list:
        """Sums of tensors of one type over the workers; to be called by all of them alike."""
        shapes = [v.shape for v in values]
        total = self._all_sum(tf.concat([tf.reshape(v, [-1]) for v in values], axis=0))
        parts = tf.split(total, [math.prod(shape) for shape in shapes])
        return [tf.reshape(p, shape) for p, shape in zip(parts, shapes, strict=True)]

    def table(self, row) -> np.ndarray:
        """Rows of numbers, one of each worker: [size, columns] float64. Waits for all workers."""
        table = np.zeros([self.size, len(row)])
        table[self.index] = row
        with telling_of_loss():
            return self._gather(tf.constant(table)).numpy()

    @contextlib.contextmanager
    def agreement(self, compared: Mapping[str, bytes], step: Callable[[], int], folder):
        """Around what each worker does before a run; then all end if one failed or is different.

        Args:
          compared: name -> bytes that must be equal on all workers.
          step: called afterwards, the steps that this worker has done.
          folder: of the run, for the error.

        Raises:
          RebarError: another worker failed, or they differ.
        """
        sums = [zlib.crc32(value) for value in compared.values()]
        try:
            yield
        except BaseException:
            self.table([0, *sums, -1])
            raise
        ready, *columns, steps = self.table([1, *sums, step()]).T
        if not all(ready):
            raise RebarError(f"worker {int(np.argmin(ready))} cannot start; see its output")
        for name, column in zip(compared, columns, strict=True):
            if np.ptp(column):
                raise RebarError(
                    f"workers differ in {name}: {', '.join(_unlike_the_first(column))} from the "
                    "chief; start all with the same command on machines of one kind"
                )
        if np.ptp(steps):
            raise RebarError(
                f"workers are at different steps: {', '.join(f'{n:.0f}' for n in steps)}; all must "
                f"see the chief's checkpoint, in a folder that they share. Here: {folder}"
            )

    def _all_sum(self, value):
        def reduce(v):
            # Identity: the sum goes where its operand is, which must be this replica's device.
            return tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, tf.identity(v)
            )

        return self._strategy.run(reduce, args=(value,))


@contextlib.contextmanager
def telling_of_loss():
    """Turn what TensorFlow raises when a worker is gone into an error that says so."""
    try:
        yield
    except (
        *(tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError),
        *(tf.errors.DeadlineExceededError, tf.errors.InternalError),
    ) as error:
        reason = next((line for line in str(error).splitlines() if "abort" in line), str(error))
        raise RebarError(
            "another worker has ended or cannot be reached; see its output. The last checkpoint "
            f"is kept: start all workers again to go on from it ({reason[:300]})"
        ) from error


def _unlike_the_first(column) -> list[str]:
    return [f"worker {i}" for i in np.flatnonzero(column != column[0])]


def read_cluster(environment: Mapping[str, str] = os.environ) -> tuple[list[str], int]:
    """Addresses of all workers, the chief's first, and the position of this one, from TF_CONFIG.

    Raises:
      RebarError: there is no TF_CONFIG, or it does not say this.
    """
    example = (
        '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    text = environment.get("TF_CONFIG", "")
    if not text:
        raise RebarError(
            "--workers=TF_CONFIG needs the environment variable TF_CONFIG, which is not set; give "
            f"each worker its own, e.g. TF_CONFIG='{example}', or --workers=N for N processes on "
            "this machine"
        )
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        unknown = set(cluster) - {"chief", "worker"}
        jobs = [(job, i) for job in ("chief", "worker") for i in range(len(cluster.get(job, [])))]
        index = jobs.index((task["type"], int(task["index"])))
        addresses = [str(cluster[job][i]) for job, i in jobs]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RebarError(
            f"TF_CONFIG={text!r} does not name the workers and this one of them ({error!r}); it "
            f"must be like {example}"
        ) from None
    if unknown:
        raise RebarError(
            f"TF_CONFIG has tasks of type {', '.join(sorted(unknown))}; only chief and worker take "
            "part in a run"
        )
    return addresses, index


def join() -> Team:
    """Meet the other workers that TF_CONFIG names; to be called before TensorFlow does anything.

    If a worker does not come, this process is killed after JOIN_SECONDS, and it is told why:
    TensorFlow waits for an hour, lets no thread of Python run meanwhile and ignores SIGTERM.

    Raises:
      RebarError: TF_CONFIG is wrong, this worker's address cannot be used, or this process has
        several GPUs.
    """
    addresses, index = read_cluster()

    reason = (
        f"error: worker {index} waited {JOIN_SECONDS} s for the others of {', '.join(addresses)}; "
        "start all of them, and see their output"
    )
    with _killed_after(JOIN_SECONDS, reason):
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except (tf.errors.OpError, RuntimeError, ValueError) as error:
            raise RebarError(
                f"worker {index} cannot join the others at {', '.join(addresses)}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        finally:
            # TensorFlow has put a handler of its own there, which only tells the other workers.
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    if strategy.num_replicas_in_sync != len(addresses):
        raise RebarError(
            f"each worker must have one GPU, or none; {len(addresses)} workers here have "
            f"{strategy.num_replicas_in_sync} devices. Start one worker for each GPU, with "
            "CUDA_VISIBLE_DEVICES=0, 1, ..."
        )
    return Team(strategy, index, len(addresses))


@contextlib.contextmanager
def _killed_after(seconds: float, reason: str):
    """Around what may block the whole process: another one kills it then, and prints the reason."""
    arguments = [str(os.getpid()), str(seconds), reason]
    watch = [sys.executable, "-I", "-S", "-c", _WATCH, *arguments]
    with subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True):
        yield
