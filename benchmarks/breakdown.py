"""Where the time of a training step goes, and how far it is from a lower bound.

    python benchmarks/breakdown.py --json=breakdown.json
    python benchmarks/breakdown.py --models=SBNNVIL --pin

Two linear layers of 200 units, 784 pixels, batch 24. Five loops are timed in turn, in one process:

    step      the whole step, as `rebar_train.py` runs it
    moments   the step without updating the moments of the gradient
    adam      the step without the two Adams
    estimate  the gradients alone, written to variables that nothing reads
    loop      minibatch and noise alone, written likewise

A part is the difference of two loops. Parts overlap where they share a pass over memory or two
cores, and without Adam a loop has constant weights; `rest` is what the parts do not explain (among
it the check for finite numbers), and can be negative.

The bound is what any implementation spends on one thread, measured between the blocks of steps in
another process: the matrix products listed in benchmarks/bound.py by TensorFlow's kernel, less the
time it takes to start one; Adam's pass over the parameters and over what the estimator learns; one
pass for the first moments. Elementwise work and what is reported are not in it. `split` is the
bound divided by the cores, which nothing reaches.
"""

import argparse
import statistics
from unittest import mock

import bound
import common

LOOPS = ("step", "moments", "adam", "estimate", "loop")


class Sinks:
    """Variables that take values, so that these must be computed and written, but nothing more.

    Args:
      shapes: of the most values there can be.
    """

    def __init__(self, shapes):
        import tensorflow as tf

        self._variables = [tf.Variable(tf.zeros(shape), trainable=False) for shape in shapes]

    def take(self, values):
        """Write each tensor to a variable of its shape; a tensor given twice is written once."""
        free = list(self._variables)
        for value in {id(value): value for value in values}.values():
            position = next(i for i, v in enumerate(free) if v.shape == value.shape)
            free.pop(position).assign(value)


def _nothing(*_):
    return None


def change(learner, loop):
    """Leave out of a learner's step what one of the five loops leaves out."""
    import tensorflow as tf

    model, batch = learner.model, common.BATCH
    gradients = max(1, len(learner.labels)) * [v.shape for v in model.trainable_variables]
    gradients += [v.shape for v in learner.estimator.trainable_variables]
    inputs = [(batch, width) for width in (model.n_input, *model.n_units)]
    sinks = Sinks({"estimate": gradients, "loop": inputs}.get(loop, []))

    def estimate(x, noise):
        estimate = learner.estimator.estimate(model, x, noise)
        tracked = estimate.tracked.values() or [estimate.gradients]
        sinks.take([g for values in tracked for g in values] + list(estimate.control_gradients))
        metrics = {"elbo": tf.reduce_mean(estimate.objective), **estimate.metrics}
        return metrics, {}, tf.constant(True)

    def minibatch(x, noise):
        sinks.take([x, *noise.uniforms])
        return {"elbo": tf.zeros([])}, {}, tf.constant(True)

    changes = {
        "step": [],
        "moments": [
            (learner.moments, "update", _nothing),
            (learner, "begin_block", _nothing),
        ],
        "adam": [(learner, "_apply", _nothing)],
        "estimate": [(learner, "step", estimate), (learner, "begin_block", _nothing)],
        "loop": [(learner, "step", minibatch), (learner, "begin_block", _nothing)],
    }
    for owner, name, value in changes[loop]:
        mock.patch.object(owner, name, value).start()


def loops_worker(pipe, model, jit):
    """Sends mode and sizes of vectors, then for each message the milliseconds of each loop."""
    from rebar.core.gradients import count
    from rebar.hparams import HParams

    hparams = HParams(
        model=model,
        n_layer=2,
        n_hidden=common.UNITS,
        batch_size=common.BATCH,
        learning_rate=3e-4,
    )
    loops = {name: common.Training(hparams, jit) for name in LOOPS}
    for name, training in loops.items():
        change(training.learner, name)
        training.measure()
    learner = loops["step"].learner
    parameters = count(learner.model.trainable_variables)
    inference = count(learner.model.inference_variables)
    methods = max(1, len(learner.labels))
    sizes = {
        "adam": [parameters, count(learner.estimator.trainable_variables)],
        "moments": [methods * inference + parameters - inference],
    }
    pipe.send((loops["step"].mode, sizes))
    while pipe.recv():
        pipe.send({name: training.measure() for name, training in loops.items()})


def measure(model, arguments):
    """The record of a model."""
    needed = bound.products(model)
    worker = common.Worker(loops_worker, model, arguments.jit)
    mode, sizes = worker.receive()
    bound_worker = common.Worker(bound.worker, needed, sizes)
    worker.measure()
    bound_worker.measure()
    loops, bounds = [], []
    for _ in range(arguments.rounds):
        bounds.append(bound_worker.measure())
        loops.append(worker.measure())
    worker.stop()
    bound_worker.stop()
    ms = {name: statistics.median(r[name] for r in loops) for name in LOOPS}
    times = [statistics.median(column) for column in zip(*(t for t, _ in bounds), strict=True)]
    passes = {name: statistics.median(sums[name] for _, sums in bounds) for name in sizes}
    return _record(model, mode, ms, needed, times, sizes, passes) | {
        "loops_ms_min": {name: round(min(r[name] for r in loops), 4) for name in LOOPS},
        "bound_ms_min": round(min(sum(t) + sum(sums.values()) for t, sums in bounds), 4),
    }


def _record(model, mode, ms, needed, times, sizes, passes):
    """Parts as differences of loops, the bound as a sum."""
    parts = {
        "estimate": ms["estimate"] - ms["loop"],
        "moments": ms["step"] - ms["moments"],
        "adam": ms["step"] - ms["adam"],
        "loop": ms["loop"],
    }
    parts["rest"] = ms["step"] - sum(parts.values())
    bounds = {"products": sum(times), **passes}
    total = sum(bounds.values())
    listed = [
        {**product._asdict(), "megaflops": round(product.megaflops(), 3), "us": round(1000 * t, 2)}
        for product, t in zip(needed, times, strict=True)
    ]
    return {
        "model": model,
        "mode": mode,
        "ms": round(ms["step"], 4),
        "parts_ms": {name: round(value, 4) for name, value in parts.items()},
        "loops_ms": {name: round(value, 4) for name, value in ms.items()},
        "bound_ms": round(total, 4),
        "bound_parts_ms": {name: round(value, 4) for name, value in bounds.items()},
        "step_by_bound": round(ms["step"] / total, 3),
        "step_by_split": round(ms["step"] / (total / common.cores()), 3),
        "products": listed,
        "components": sizes,
    }


def show(r):
    """Print the table of a record."""
    print(f"\n{r['model']}, {r['mode']}\n\n| part | ms | share |\n|---|---|---|")
    rows = {"step": r["ms"], **r["parts_ms"]}
    rows |= {f"bound: {name}": value for name, value in r["bound_parts_ms"].items()}
    rows["bound"] = r["bound_ms"]
    rows[f"bound, split over {common.cores()}"] = r["bound_ms"] / common.cores()
    for name, value in rows.items():
        print(f"| {name} | {value:.3f} | {value / r['ms']:.2f} |")
    megaflops = sum(product["megaflops"] for product in r["products"])
    least, least_bound = r["loops_ms_min"]["step"], r["bound_ms_min"]
    print(
        f"\nstep / bound {r['step_by_bound']:.2f}, step / split {r['step_by_split']:.2f}; of the "
        f"least times {least:.2f} ms and {least_bound:.2f} ms, {least / least_bound:.2f}; products "
        f"of {megaflops:.1f} Mflop at {megaflops / r['bound_parts_ms']['products']:.0f} Gflop/s",
        flush=True,
    )


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--models",
        type=common.words(list(bound.PASSES)),
        default=",".join(bound.PASSES),
        metavar="NAMES",
        help="comma list (default: %(default)s)",
    )
    parser.add_argument("--jit", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--rounds", type=common.integer, default=15, help="blocks timed of each")
    parser.add_argument("--pin", action="store_true", help="use one core")
    parser.add_argument("--json", help="file to write the records to")
    return parser.parse_args()


def main():
    """Measure, print a table for each model, write the records."""
    arguments = _arguments()
    if arguments.pin:
        common.pin()
    print(f"{common.cores()} cores, batch {common.BATCH}, medians of blocks")
    records = []
    for model in arguments.models:
        records.append(measure(model, arguments))
        show(records[-1])
        common.write_records(arguments.json, arguments.pin, records=records)


if __name__ == "__main__":
    common.run(main)
