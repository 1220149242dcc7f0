"""Milliseconds a training step, for every registered model, through the code path of training.

    python benchmarks/step_time.py --json=step_time.json
    python benchmarks/step_time.py --models=SBNNVIL,SBNDynamicRebar --layers=2 --pin

A step is what `rebar_train.py` does: noise, minibatch, gradients, two Adams, moments, with the mode
and the threads that it would choose. Each model runs in a process of its own. The unit to compare
machines and runs by is the time of one float32 product [24, 784] x [784, 200] in a tf.function loop
on one thread; it is measured between the blocks of steps, so that a busy spell of the machine hits
both. `x 2017` says how many times faster than the 2017 code in these units.

Images are random: the time of a step does not depend on them. Each model has as few samples an
example as it takes.
"""

import argparse
import itertools
import statistics

import common

# Units a step of the 2017 code: (pinned to one core, two cores), two layers unless said.
UNITS_2017 = {
    ("SBN", 1, False): (29, 29),
    ("SBNNVIL", 2, False): (37, 40),
    ("SBNDynamicRebar", 2, False): (280, 210),
    ("SBNDynamicRebar", 2, True): (415, 315),
    ("SBNTrackGradVariances", 2, False): (525, 370),
}


def case_worker(pipe, model, n_layer, nonlinear, jit, generic):
    """Sends mode and seconds of the first call, then for each message the milliseconds a step."""
    from rebar import registry
    from rebar.hparams import HParams

    hparams = HParams(
        model=model,
        n_layer=n_layer,
        n_samples=registry.entry(model).n_samples(1),
        nonlinear=nonlinear,
        learning_rate=3e-4,
        batch_size=common.BATCH,
        n_hidden=common.UNITS,
    )
    training = common.Training(hparams, jit)
    if generic:
        training.learner.model.linear_inputs = lambda *_: None
        training.learner.model.flipped = lambda *_: None
    pipe.send((training.mode, training.measure() * training.block / 1000))
    while pipe.recv():
        pipe.send(training.measure())


def measure(unit_clock, case, arguments):
    """The record of one case: (model, n_layer, nonlinear)."""
    worker = common.Worker(case_worker, *case, arguments.jit, arguments.generic)
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
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", **common.models())
    parser.add_argument("--layers", default="1,2", type=common.integers, help="comma list")
    nets = common.words(["linear", "nonlinear"])
    parser.add_argument("--nets", default="linear,nonlinear", type=nets, help="one or both")
    parser.add_argument("--jit", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--generic", action="store_true", help="without the linear fast paths")
    parser.add_argument("--rounds", type=common.integer, default=15, help="blocks timed for each")
    parser.add_argument("--pin", action="store_true", help="use one core")
    parser.add_argument("--json", help="file to write the records to")
    return parser.parse_args()


def main():
    """Measure, print a table, write the records."""
    arguments = _arguments()
    if arguments.pin:
        common.pin()
    unit_clock = common.Worker(common.unit_worker)
    unit_clock.measure()
    print(
        f"{common.cores()} cores, batch {common.BATCH}, {common.UNITS} units, "
        f"{common.PIXELS} pixels, medians of blocks"
    )
    print("| model | layers | net | mode | ms | min | unit us | units | x 2017 | first call s |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    records = []
    for model, n_layer, net in itertools.product(
        arguments.models, arguments.layers, arguments.nets
    ):
        r = measure(unit_clock, (model, n_layer, net == "nonlinear"), arguments)
        records.append(r)
        print(
            f"| {model} | {n_layer} | {net} | {r['mode']} | {r['ms']:.2f} | "
            f"{r['ms_min']:.2f} | {r['unit_us']:.0f} | {r['units']:.1f} | "
            f"{r['ratio_2017'] or ''} | {r['first_call_s']:.1f} |",
            flush=True,
        )
    unit_clock.stop()
    common.write_records(arguments.json, arguments.pin, records=records)


if __name__ == "__main__":
    common.run(main)
