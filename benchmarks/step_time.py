"""Milliseconds a training step, for every registered model, through the code path of training.

    python benchmarks/step_time.py --json=step_time.json
    python benchmarks/step_time.py --models=SBNNVIL,SBNDynamicRebar --layers=2 --pin

A step is what `rebar_train.py` does: noise, minibatch, gradients, two Adams, moments, with the mode
and the threads that it would choose. Each model runs in a process of its own. The unit to compare
machines and runs by is the time of one float32 product [24, 784] x [784, 200] in a tf.function loop
on one thread; it is measured between the blocks of steps, so that a busy spell of the machine hits
both. `x 2017` says how many times faster than the 2017 code in these units.

Images are random: the time of a step does not depend on them.
"""

import argparse
import multiprocessing
import os
import statistics
import time

# Units a step of the 2017 code: (pinned to one core, two cores), two layers unless said.
UNITS_2017 = {
    ("SBN", 1, False): (29, 29),
    ("SBNNVIL", 2, False): (37, 40),
    ("SBNDynamicRebar", 2, False): (280, 210),
    ("SBNDynamicRebar", 2, True): (415, 315),
    ("SBNTrackGradVariances", 2, False): (525, 370),
}
PIXELS = 784
UNITS = 200
BATCH = 24
STEPS = 100


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


def case_worker(pipe, model, n_layer, nonlinear, jit, generic):
    """Sends mode and seconds of the first call, then for each message the milliseconds a step."""
    import numpy as np

    from rebar import registry
    from rebar.cli.threads import choose_threads
    from rebar.factory import make_learner
    from rebar.hparams import HParams
    from rebar.training.blocks import Blocks

    images = (np.random.RandomState(0).rand(BATCH * STEPS, PIXELS) < 0.13).astype(np.uint8)
    hparams = HParams(
        model=model, n_layer=n_layer, nonlinear=nonlinear, learning_rate=3e-4, batch_size=BATCH
    )
    compiled = jit == "on" or (jit == "auto" and registry.make_estimator(model, hparams).jit_pays)
    choose_threads(0, compiled, BATCH, UNITS)
    learner = make_learner(hparams, images.mean(0), conditional=False)
    if generic:
        learner.model.linear_inputs = lambda *_: None
    blocks = Blocks(learner, images, BATCH, jit=compiled)
    start = time.perf_counter()
    blocks.take(0, STEPS)
    pipe.send(("jit" if compiled else "ops", time.perf_counter() - start))
    step = STEPS
    while pipe.recv():
        start = time.perf_counter()
        blocks.take(step, STEPS)
        step += STEPS
        pipe.send(1000 * (time.perf_counter() - start) / STEPS)


class Worker:
    """A process that measures when told to."""

    def __init__(self, target, *arguments):
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=target, args=(other, *arguments), daemon=True)
        self._process.start()
        other.close()

    def receive(self):
        """What the process sends next."""
        return self._pipe.recv()

    def measure(self):
        """One measurement."""
        self._pipe.send(True)
        return self._pipe.recv()

    def stop(self):
        """End the process."""
        self._pipe.send(False)
        self._process.join()


def measure(unit_clock, case, arguments):
    """The record of one case: (model, n_layer, nonlinear)."""
    worker = Worker(case_worker, *case, arguments.jit, arguments.generic)
    mode, first_call = worker.receive()
    worker.measure()
    times, units = [], []
    for _ in range(arguments.rounds):
        units.append(unit_clock.measure())
        times.append(worker.measure())
    worker.stop()
    median, unit = statistics.median(times), statistics.median(units)
    old = UNITS_2017.get(case)
    return {
        "model": case[0],
        "n_layer": case[1],
        "nonlinear": case[2],
        "generic": arguments.generic,
        "mode": mode,
        "ms": round(median, 4),
        "ms_min": round(min(times), 4),
        "unit_us": round(1000 * unit, 2),
        "units": round(median / unit, 2),
        "ratio_2017": round(old[0 if arguments.pin else 1] * unit / median, 2) if old else None,
        "first_call_s": round(first_call, 2),
    }


def _arguments():
    from rebar import registry

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default=",".join(registry.names()), help="comma list")
    parser.add_argument("--layers", default="1,2", help="comma list of n_layer")
    parser.add_argument("--nets", default="linear,nonlinear", help="linear, nonlinear or both")
    parser.add_argument("--jit", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--generic", action="store_true", help="without the linear fast path")
    parser.add_argument("--rounds", type=int, default=15, help="blocks timed for each case")
    parser.add_argument("--pin", action="store_true", help="use one core")
    parser.add_argument("--json", help="file to write the records to")
    return parser.parse_args()


def main():
    """Measure, print a table, write the records."""
    arguments = _arguments()
    if arguments.pin:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    unit_clock = Worker(unit_worker)
    unit_clock.measure()
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, batch {BATCH}, {UNITS} units, {PIXELS} pixels, medians of blocks")
    print("| model | layers | net | mode | ms | min | unit us | units | x 2017 | first call s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    records = []
    for model in arguments.models.split(","):
        for n_layer in map(int, arguments.layers.split(",")):
            for net in arguments.nets.split(","):
                r = measure(unit_clock, (model, n_layer, net == "nonlinear"), arguments)
                records.append(r)
                print(
                    f"| {model} | {n_layer} | {net} | {r['mode']} | {r['ms']:.2f} | "
                    f"{r['ms_min']:.2f} | {r['unit_us']:.0f} | {r['units']:.1f} | "
                    f"{r['ratio_2017'] or ''} | {r['first_call_s']:.1f} |",
                    flush=True,
                )
    unit_clock.stop()
    if arguments.json:
        from rebar.training.records import write_json

        write_json(arguments.json, {"cores": cores, "pinned": arguments.pin, "records": records})


if __name__ == "__main__":
    main()
