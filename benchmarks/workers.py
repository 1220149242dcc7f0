"""Time of a step by one process and by several workers on this machine, in turns.

    python benchmarks/workers.py [--repeats=3] [--workers=2] [--seconds=6] [--batches=24,1000]

Two linear layers of 200 units on 784 random pixels. Each number is the median over the repeats of
the milliseconds of a step, with the lowest and the highest:

    one, compiled    one process on all cores, with XLA
    one              one process on all cores, as the workers are: without XLA
    share, compiled  one process on the cores of a single worker, with XLA
    workers          each on its share of the cores

The last two are what a second machine would gain, if the network were as fast as the loopback.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--repeats", type=int, default=3, help="Turns.")
parser.add_argument("--workers", type=int, default=2, help="Processes.")
parser.add_argument("--seconds", type=float, default=6.0, help="Time measured in each turn.")
parser.add_argument("--batches", default="24,1000", help="Sizes of the minibatch.")
parser.add_argument("--models", default="SBNDisARM,SBNDynamicRebar", help="Models.")
parser.add_argument("--one", default="", help="Internal: model,batch,mode of this process.")
values = parser.parse_args()

MODES = ("one, compiled", "one", "share, compiled", "workers")


def measure(model: str, batch: int, mode: str) -> float:
    """Milliseconds of a step in this process, a worker if TF_CONFIG is set."""
    import numpy as np

    from rebar.cli.threads import choose_threads, cores
    from rebar.factory import make_learner
    from rebar.hparams import HParams
    from rebar.training import workers
    from rebar.training.blocks import Blocks

    size = values.workers if "TF_CONFIG" in os.environ else 1
    jit = mode.endswith("compiled")
    share = max(1, cores() // values.workers)
    if mode.startswith("share"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:share])
    choose_threads(0, jit, batch // size, 200, share if size > 1 else 0)
    team = workers.join() if size > 1 else None
    learner = make_learner(HParams(model=model, n_layer=2, n_hidden=200), np.full(784, 0.5), False)
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

    number = values.workers if mode == "workers" else 1
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
    if values.one:
        model, batch, mode = values.one.split(",", 2)
        print(measure(model, int(batch), mode))
        return
    print("| model | batch | " + " | ".join(MODES) + " |\n" + "|---" * (2 + len(MODES)) + "|")
    for model in values.models.split(","):
        for batch in map(int, values.batches.split(",")):
            times = {mode: [] for mode in MODES}
            for _ in range(values.repeats):
                for mode in MODES:
                    times[mode].append(run(model, batch, mode))
            cells = [
                f"{statistics.median(t):.2f} ({min(t):.2f} to {max(t):.2f})" for t in times.values()
            ]
            print(f"| {model} | {batch} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
