"""Time of a step by one process and by several workers on this machine, in turns.

    python benchmarks/workers.py [--repeats=3] [--workers=2] [--seconds=6] [--batches=24,1000]

Two linear layers of 200 units on 784 random pixels. Each line is the median over the repeats of
the milliseconds of a step. "estimate compiled": of several workers, with the estimate compiled by
XLA and the sum over the workers outside; for an estimator that needs no sum within it.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

values = flags.FlagValues()
flags.DEFINE_integer("repeats", 3, "Turns.", flag_values=values)
flags.DEFINE_integer("workers", 2, "Processes.", flag_values=values)
flags.DEFINE_float("seconds", 6.0, "Time measured in each turn.", flag_values=values)
flags.DEFINE_list("batches", "24,1000", "Sizes of the minibatch.", flag_values=values)
flags.DEFINE_list("models", "SBNDisARM,SBNDynamicRebar", "Models.", flag_values=values)
flags.DEFINE_string("one", "", "Internal: model,batch,mode of this process.", flag_values=values)


def measure(model: str, batch: int, mode: str) -> float:
    """Milliseconds of a step in this process, a worker if TF_CONFIG is set."""
    import numpy as np
    import tensorflow as tf

    from rebar.cli.threads import choose_threads, cores
    from rebar.factory import make_learner
    from rebar.hparams import HParams
    from rebar.noise import Noise
    from rebar.training import workers
    from rebar.training.blocks import Blocks

    size = values.workers if "TF_CONFIG" in os.environ else 1
    jit = mode == "one compiled"
    limit = max(1, cores() // size) if size > 1 else 0
    choose_threads(0, jit or mode == "estimate compiled", batch // size, 200, limit)
    team = workers.join() if size > 1 else None
    learner = make_learner(HParams(model=model, n_layer=2, n_hidden=200), np.full(784, 0.5), False)
    if mode == "estimate compiled":
        estimate = learner.estimator.estimate

        def compiled(model, x, noise):
            def of(x, uniforms):
                return estimate(model, x, Noise(uniforms))

            return tf.function(of, jit_compile=True, autograph=False)(x, noise.uniforms)

        learner.estimator.estimate = compiled
    data = np.random.default_rng(0).integers(0, 2, [20 * batch, 784]).astype(np.uint8)
    blocks = Blocks(learner, data, batch, 1, jit=jit, team=team)
    step = 0

    def take():
        nonlocal step
        count = blocks.next_count(step, 10)
        blocks.take(step, count)
        step += count
        return count

    take(), take()
    start, done, running = time.perf_counter(), 0, True
    while running:
        done += take()
        running = time.perf_counter() - start < values.seconds
        if team is not None:  # all take the same number of steps
            running = bool(team.table([running])[0][0])
    return 1000 * (time.perf_counter() - start) / done


def run(model, batch, mode) -> float:
    """`measure` in processes of its own."""
    from rebar.cli.workers import free_ports

    number = 1 if mode.startswith("one") else values.workers
    addresses = [f"127.0.0.1:{port}" for port in free_ports(number)]
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[1]))
    children = []
    for index in range(number):
        if number > 1:
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        command = [sys.executable, __file__, *sys.argv[1:], f"--one={model},{batch},{mode}"]
        children.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        )
    outputs = [child.communicate()[0] for child in children]
    return float(outputs[0])


def main():
    """Print the table."""
    values(sys.argv)
    if values.one:
        model, batch, mode = values.one.split(",")
        print(measure(model, int(batch), mode))
        return
    for model in values.models:
        modes = ["one compiled", "one", "workers"]
        if "Rebar" not in model and "Relax" not in model:
            modes.append("estimate compiled")
        for batch in map(int, values.batches):
            times = {mode: [] for mode in modes}
            for _ in range(values.repeats):
                for mode in modes:
                    times[mode].append(run(model, batch, mode))
                    print(model, batch, mode, f"{times[mode][-1]:.2f}", file=sys.stderr, flush=True)
            shown = {mode: f"{statistics.median(t):.2f}" for mode, t in times.items()}
            print(model, batch, shown, {m: [round(v, 2) for v in t] for m, t in times.items()})
            sys.stdout.flush()


if __name__ == "__main__":
    main()
