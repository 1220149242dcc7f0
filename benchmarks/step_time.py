"""Milliseconds a training step, for every registered model, through the code path of training.

    python benchmarks/step_time.py --json=step_time.json
    python benchmarks/step_time.py --models=SBNNVIL,SBNDynamicRebar --layers=2 --pin

A step is what `rebar_train.py` does: noise, minibatch, gradients, two Adams, moments. Each figure
is the median over blocks of steps, models interleaved in rounds so that a busy spell of the
machine hits all of them. The unit to compare machines and runs by is the median time of one
float32 product [24, 784] x [784, 200] in a tf.function loop on one thread, measured in the same
run; `x 2017` says how many times faster than the 2017 code in these units.

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


def measure_unit() -> float:
    """Median milliseconds of one [24, 784] x [784, 200] product on one thread.

    In a process of its own: thread counts are fixed when TensorFlow starts.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_unit)


def _unit(seconds=1.0, products=200):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    a, b = tf.random.normal([BATCH, PIXELS]), tf.random.normal([PIXELS, UNITS])

    @tf.function
    def loop():
        total = tf.zeros([BATCH, UNITS])
        for i in tf.range(products):
            total += tf.matmul(a + tf.cast(i, tf.float32), b)
        return total

    loop()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        loop().numpy()
        times.append(1000 * (time.perf_counter() - start) / products)
    return statistics.median(times)


class Case:
    """One model at one size, ready to be timed a block at a time."""

    def __init__(self, model, n_layer, nonlinear, jit):
        import numpy as np

        from rebar.factory import make_learner
        from rebar.hparams import HParams
        from rebar.training.blocks import Blocks

        images = (np.random.RandomState(0).rand(5000, PIXELS) < 0.13).astype(np.uint8)
        hparams = HParams(
            model=model, n_layer=n_layer, nonlinear=nonlinear, learning_rate=3e-4, batch_size=BATCH
        )
        learner = make_learner(hparams, images.mean(0), conditional=False)
        self.jit = learner.estimator.jit_pays if jit == "auto" else jit == "on"
        self.key = (model, n_layer, nonlinear)
        self._blocks = Blocks(learner, images, BATCH, jit=self.jit)
        self._step = 0
        self.times: list = []
        start = time.perf_counter()
        self._block()
        self.first_call = time.perf_counter() - start

    def _block(self):
        count = self._blocks.next_count(self._step, 10**9)
        while count < 20:
            self._blocks.take(self._step, count)
            self._step += count
            count = self._blocks.next_count(self._step, 10**9)
        start = time.perf_counter()
        self._blocks.take(self._step, count)
        self._step += count
        return 1000 * (time.perf_counter() - start) / count

    def time(self):
        """Time one block."""
        self.times.append(self._block())

    def record(self, unit, pinned):
        """The figures of this case."""
        median = statistics.median(self.times)
        model, n_layer, nonlinear = self.key
        old = UNITS_2017.get(self.key)
        return {
            "model": model,
            "n_layer": n_layer,
            "nonlinear": nonlinear,
            "mode": "jit" if self.jit else "ops",
            "ms": round(median, 4),
            "ms_min": round(min(self.times), 4),
            "units": round(median / unit, 2),
            "ratio_2017": round(old[0 if pinned else 1] * unit / median, 2) if old else None,
            "first_call_s": round(self.first_call, 2),
        }


def _arguments():
    from rebar import registry

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default=",".join(registry.names()), help="comma list")
    parser.add_argument("--layers", default="1,2", help="comma list of n_layer")
    parser.add_argument("--nets", default="linear,nonlinear", help="linear, nonlinear or both")
    parser.add_argument("--jit", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--rounds", type=int, default=8, help="blocks timed for each case")
    parser.add_argument("--pin", action="store_true", help="use one core")
    parser.add_argument("--json", help="file to write the records to")
    return parser.parse_args()


def main():
    """Measure, print a table, write the records."""
    arguments = _arguments()
    if arguments.pin:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from rebar.cli.quiet import quiet_start

    unit = measure_unit()
    with quiet_start():
        cases = [
            Case(model, int(n_layer), net == "nonlinear", arguments.jit)
            for model in arguments.models.split(",")
            for n_layer in arguments.layers.split(",")
            for net in arguments.nets.split(",")
        ]
    for _ in range(arguments.rounds):
        for case in cases:
            case.time()
    unit = statistics.mean([unit, measure_unit()])
    records = [case.record(unit, arguments.pin) for case in cases]
    print(f"unit: {1000 * unit:.1f} us; cores: {len(os.sched_getaffinity(0))}")
    print("| model | layers | net | mode | ms | units | x 2017 | first call s |")
    print("|---|---|---|---|---|---|---|---|")
    for r in records:
        net = "nonlinear" if r["nonlinear"] else "linear"
        print(
            f"| {r['model']} | {r['n_layer']} | {net} | {r['mode']} | {r['ms']:.3f} | "
            f"{r['units']:.1f} | {r['ratio_2017'] or ''} | {r['first_call_s']:.1f} |"
        )
    if arguments.json:
        from rebar.training.records import write_json

        write_json(arguments.json, {"unit_ms": unit, "pinned": arguments.pin, "records": records})


if __name__ == "__main__":
    main()
