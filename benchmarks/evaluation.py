"""Seconds that the multi-sample bound of a set of images takes, as training evaluates it.

    python benchmarks/evaluation.py --json=evaluation.json
    python benchmarks/evaluation.py --family=conditional --nonlinear --images=2000
    python benchmarks/evaluation.py --data_dir=data

The model has its initial weights: the time does not depend on them. Images are random, 784 pixels;
with --data_dir they are the validation and test images of binarized MNIST. The threads are those
that `rebar_train.py` chooses for the estimator, whose own numbers are evaluated with the bound, as
in training. An evaluation of a few images, timed as `first call s`, comes before; it traces the
functions. `MB` is the peak of resident memory, `of it start` what TensorFlow takes before anything
is built.
"""

import argparse
import statistics
import time

import common

WARM_UP = 80
"""Images evaluated first."""


def load_images(data_dir, count):
    """Images [count, 784] to evaluate, or as many as there are, and the training mean [784]."""
    import numpy as np

    if data_dir is None:
        images = common.random_images(count)
        return images, images.mean(0)
    from rebar.data import load

    data = load("sbn", data_dir)
    return np.concatenate([data.valid, data.test])[:count], data.mean


def case_worker(pipe, settings, family, data_dir, n_images, n_samples):
    """Sends what it found while it set out, then for each message seconds and bound in nats.

    False ends it; it then sends the peak of its resident memory in MB.
    """
    from rebar import registry
    from rebar.factory import make_learner
    from rebar.hparams import HParams
    from rebar.training.evaluate import Evaluator
    from rebar.training.threads import choose_threads

    start_memory = common.peak_memory()
    hparams = HParams(**settings)
    rows = hparams.batch_size * hparams.n_samples
    estimator = registry.make_estimator(hparams.model, hparams)
    jit = common.is_compiled(estimator)
    threads = choose_threads(0, jit, rows, hparams.n_hidden)
    images, mean = load_images(data_dir, n_images)
    learner = make_learner(hparams, estimator, mean, conditional=family == "conditional")
    evaluate = Evaluator(learner.model, learner.estimator, jit=jit)
    start = time.perf_counter()
    evaluate(images[:WARM_UP], n_samples)
    pipe.send(
        {
            "objective": learner.model.objective_name,
            "threads": threads,
            "images": len(images),
            "start_memory_mb": round(start_memory),
            "first_call_s": round(time.perf_counter() - start, 2),
        }
    )
    while pipe.recv():
        start = time.perf_counter()
        bound = evaluate(images, n_samples)["bound"]
        pipe.send((time.perf_counter() - start, bound))
    pipe.send(common.peak_memory())


def measure(arguments):
    """The record of what the arguments ask for."""
    settings = {
        "model": arguments.model,
        "n_layer": arguments.layers,
        "n_hidden": arguments.units,
        "nonlinear": arguments.nonlinear,
    }
    worker = common.Worker(
        case_worker,
        settings,
        arguments.family,
        arguments.data_dir,
        arguments.images,
        arguments.samples,
    )
    found = worker.receive()
    times, bounds = zip(*(worker.measure() for _ in range(arguments.rounds)), strict=True)
    memory = worker.measure(False)
    worker.stop()
    seconds = statistics.median(times)
    return {
        **settings,
        "family": arguments.family,
        "random_images": arguments.data_dir is None,
        "samples": arguments.samples,
        **found,
        "seconds": round(seconds, 3),
        "seconds_min": round(min(times), 3),
        "image_samples_a_second": round(found["images"] * arguments.samples / seconds),
        "peak_memory_mb": round(memory),
        "bound": bounds[0],
    }


def _arguments():
    from rebar import registry

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--family", default="unconditional", choices=["unconditional", "conditional"]
    )
    parser.add_argument("--model", default="SBNDynamicRebar", choices=registry.names("binary"))
    parser.add_argument("--layers", default=2, type=common.integer, help="stochastic layers")
    parser.add_argument("--units", default=common.UNITS, type=common.integer, help="of a layer")
    parser.add_argument("--nonlinear", action="store_true", help="two tanh layers in each map")
    parser.add_argument("--images", default=20000, type=common.integer, help="at most so many")
    parser.add_argument("--samples", default=100, type=common.integer, help="of the bound")
    parser.add_argument("--rounds", default=3, type=common.integer, help="evaluations timed")
    parser.add_argument("--data_dir", help="folder of the data sets; without it, random images")
    parser.add_argument("--pin", action="store_true", help="use one core")
    parser.add_argument("--json", help="file to write the record to")
    return parser.parse_args()


def main():
    """Measure, print a table, write the record."""
    arguments = _arguments()
    if arguments.pin:
        common.pin()
    r = measure(arguments)
    net = "nonlinear" if r["nonlinear"] else "linear"
    print(f"{common.cores()} cores, threads {r['threads']}; {r['objective']}")
    print(
        "| family | layers | units | net | images | samples | s | least | image-samples a second "
        "| MB | of it start | first call s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {r['family']} | {r['n_layer']} | {r['n_hidden']} | {net} | {r['images']} | "
        f"{r['samples']} | {r['seconds']:.2f} | {r['seconds_min']:.2f} | "
        f"{r['image_samples_a_second']} | {r['peak_memory_mb']} | {r['start_memory_mb']} | "
        f"{r['first_call_s']:.1f} |"
    )
    common.write_records(arguments.json, arguments.pin, records=[r])


if __name__ == "__main__":
    common.run(main)
