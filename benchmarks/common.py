"""What the benchmarks share: measuring processes, the unit to compare by, training as it is run.

Each configuration is measured in a process of its own, because threads and memory are settled once
a process. The unit to compare machines and runs by is the time of one float32 product
[24, 784] x [784, 200] in a tf.function loop on one thread.
"""

import argparse
import functools
import json
import multiprocessing
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

from rebar import registry
from rebar.errors import RebarError
from rebar.runs.quiet import quiet_start

PIXELS = 784
UNITS = 200
BATCH = 24
_INK = 33 / 256
_TRAINING_IMAGES = 50_000


def words(allowed):
    """A parser of comma lists of some of the allowed words, for argparse."""
    return functools.partial(_words, allowed)


def _words(allowed, text):
    given = [word.strip() for word in text.split(",")]
    wrong = [word for word in given if word not in allowed]
    if wrong:
        raise argparse.ArgumentTypeError(
            f"cannot use {', '.join(map(repr, wrong))}; allowed, separated by commas: "
            f"{', '.join(allowed)}"
        )
    return given


def integers(text):
    """A comma list of integers from 1, for argparse."""
    return [integer(word.strip()) for word in text.split(",")]


def integer(text):
    """An integer from 1, for argparse."""
    if not (text.isascii() and text.isdigit()) or not int(text):
        raise argparse.ArgumentTypeError(f"cannot use {text!r}; allowed: integers from 1")
    return int(text)


def models(default=None):
    """What argparse is to know of a flag of model names; `default` is a comma list, else all."""
    names = registry.names("binary")
    return {
        "type": words(names),
        "default": default or ",".join(names),
        "metavar": "NAMES",
        "help": "comma list (default: %(default)s)",
    }


def cores():
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def pin():
    """Keep this process, and those that it starts, to one core."""
    if not hasattr(os, "sched_setaffinity"):
        raise RebarError("--pin needs an operating system that can bind processes to cores")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def processor():
    """The name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def surroundings(pinned):
    """What numbers depend on besides the settings, for the file of records."""
    versions = {name: metadata.version(name) for name in ("tensorflow", "keras", "numpy")}
    return {
        "versions": versions | {"python": platform.python_version()},
        "processor": processor(),
        "cores": cores(),
        "pinned": pinned,
    }


def peak_memory():
    """The most resident memory that this process has had, in MB."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def random_images(count, pixels=PIXELS):
    """[count, pixels] uint8 of 0 and 1, about as many 1 as MNIST has; always the same ones."""
    import numpy as np

    grey = np.random.default_rng(0).integers(0, 256, (count, pixels), np.uint8)
    return (grey < 256 * _INK).view(np.uint8)


def is_compiled(estimator, jit="auto"):
    """Whether `rebar_train.py --jit=...` compiles the steps."""
    return jit == "on" or (jit == "auto" and estimator.jit_pays)


class Training:
    """Steps of one configuration, with the mode and the threads that `rebar_train.py` chooses.

    Attributes:
      learner: may be changed before the first step.
      mode: "jit" or "ops".
      block: steps of a block, for which training draws the noise at once.

    Args:
      hparams: as of a run; images are random, about as many as MNIST has.
      jit: "auto", "on" or "off".
    """

    def __init__(self, hparams, jit="auto"):
        from rebar import noise
        from rebar.factory import make_learner
        from rebar.training.blocks import Blocks
        from rebar.training.threads import choose_threads

        batch, n_samples = hparams.batch_size, hparams.n_samples
        estimator = registry.make_estimator(hparams.model, hparams)
        compiled = is_compiled(estimator, jit)
        choose_threads(0, compiled, batch * n_samples, hparams.n_hidden)
        self.mode = "jit" if compiled else "ops"
        self.block = noise.block_steps(batch * n_samples * hparams.n_layer * hparams.n_hidden)
        images = random_images(_whole_blocks(batch * self.block))
        self.learner = make_learner(hparams, estimator, images.mean(0), conditional=False)
        self._blocks = Blocks(self.learner, images, batch, n_samples, jit=compiled)
        self._step = 0

    def measure(self, blocks=1):
        """Take some blocks of steps; milliseconds a step."""
        start = time.perf_counter()
        for _ in range(blocks):
            self._blocks.take(self._step, self.block)
            self._step += self.block
        return 1000 * (time.perf_counter() - start) / (blocks * self.block)


def _whole_blocks(images_a_block):
    """A number of images whose epochs are whole blocks: a block cut short costs as much noise."""
    return images_a_block * max(1, _TRAINING_IMAGES // images_a_block)


class Worker:
    """A process that measures when told to.

    `target(pipe, *arguments)` runs in it once TensorFlow is imported, without its start-up lines.
    """

    def __init__(self, target, *arguments):
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(target, other, arguments), daemon=True)
        self._process.start()
        other.close()

    def receive(self):
        """What the process sends next. Raises RebarError if it sent one, or ended early."""
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RebarError(
                f"a measuring process ended early, exit status {self._process.exitcode}"
            ) from None
        if isinstance(answer, RebarError):
            raise answer
        return answer

    def measure(self, message=True):
        """One measurement; `message` is what the process is told, by default just to go on."""
        self._pipe.send(message)
        return self.receive()

    def stop(self):
        """End the process."""
        self._pipe.send(False)
        self._process.join()


def _work(target, pipe, arguments):
    # TensorFlow alone does not keep the silence that 3 asks for; any other level is left alone.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "3":
        del os.environ["TF_CPP_MIN_LOG_LEVEL"]
    with quiet_start():
        import tensorflow  # noqa: F401
    try:
        target(pipe, *arguments)
    except RebarError as error:
        pipe.send(error)


def unit_worker(pipe):
    """Answers each message with the milliseconds of one unit, on one thread."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    a, b = tf.random.normal([BATCH, PIXELS]), tf.random.normal([PIXELS, UNITS])

    @tf.function
    def loop():
        total = tf.zeros([BATCH, UNITS])
        for i in tf.range(1000):
            total += tf.matmul(a + tf.cast(i, tf.float32), b)
        return total

    loop()
    while pipe.recv():
        start = time.perf_counter()
        loop().numpy()
        pipe.send(time.perf_counter() - start)


def write_file(path, content):
    """Write bytes to a file, whole or not at all."""
    from rebar.runs import files

    try:
        files.write_file(path, content)
    except RebarError as error:
        # Its own message speaks of the folder of a run.
        raise RebarError(f"cannot write {path!r}: {error.__cause__}; give another file") from error


def write_records(path, pinned, **content):
    """Write records and what they depend on as JSON, if a path is given."""
    if path:
        text = json.dumps(surroundings(pinned) | content, indent=2, allow_nan=False)
        write_file(path, f"{text}\n".encode())


def run(main):
    """Call a program's `main`; end with status 2 and one line where a user can mend something."""
    try:
        main()
    except RebarError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
