"""Training steps of categorical VAEs, as `rebar_train.py` takes them, in multiples of ReinMax's.

    python benchmarks/categorical.py --sizes=8x4,64x8 --json=FILE

Sizes are C x L: categories and variables. All models of a size are measured in turns, so that the
ratio to ReinMax's step is of the same minutes; milliseconds are medians. Images are random, batches
of 100, one thread an operation.
"""

import argparse
import time

import common
import numpy as np
import tensorflow as tf

from rebar import registry
from rebar.errors import RebarError
from rebar.factory import make_learner
from rebar.hparams import HParams
from rebar.training.blocks import Blocks

BATCH = 100
STEPS = 20
REFERENCE = "CatReinMax"
MANY_EVALUATIONS = ("CatARSM", "CatIndeCateR")
"""Hundreds or thousands of evaluations per image at 64x8; measured only if named."""
SAMPLES = {"CatLOO": 4, "CatTrackGradVariances": 2}
OPTIONS = {"CatCARMS": (("n_antithetic", 4),), "CatUNORD": (("n_codes", 4),)}
"""Four evaluations of the estimators that take several samples."""
MODELS = [n for n in registry.names("categorical") if n not in ("CatExact", "CatReinforce")]


def size(text):
    """(C, L) of "CxL", for argparse."""
    parts = text.strip().split("x")
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"cannot use {text!r}; type e.g. 64x8")
    return tuple(map(common.integer, parts))


def sizes(text):
    """A comma list of sizes, for argparse."""
    return [size(part) for part in text.split(",")]


def hparams(model, of, draws):
    """Settings of a run."""
    return HParams(
        model=model,
        task="mnist",
        n_categories=of[0],
        n_latents=of[1],
        mc_samples=draws,
        batch_size=BATCH,
        temperature=1.0,
        beta2=0.999,
        n_samples=registry.entry(model).n_samples(SAMPLES.get(model, 1)),
        custom=OPTIONS.get(model, ()),
        track=("ST", "ReinMax", "ReinMaxRao", "LOO"),
        follow="ReinMax",
    )


def training(settings, jit):
    """A function that takes STEPS steps and returns milliseconds a step; whether it compiles."""
    images = common.random_images(BATCH * STEPS).astype(np.float32)
    estimator = registry.make_estimator(settings.model, settings)
    compiled = common.is_compiled(estimator, jit)
    learner = make_learner(settings, estimator, images.mean(0), conditional=False)
    blocks = Blocks(learner, images, BATCH, settings.n_samples, jit=compiled)

    def measure():
        start = time.perf_counter()
        done = 0
        while done < STEPS:
            count = blocks.next_count(done, STEPS - done)
            blocks.take(done, count)
            done += count
        return 1000 * (time.perf_counter() - start) / STEPS

    return measure, compiled


def rows(models, of, given):
    """Records of the models of one size."""
    cases, times, peaks = {}, {name: [] for name in models}, {}
    for name in models:
        cases[name] = training(hparams(name, of, given.draws), given.jit)
        cases[name][0]()
        peaks[name] = common.peak_memory()
    for _ in range(given.rounds):
        for name, (measure, _) in cases.items():
            times[name].append(measure())
    base = np.median(times[REFERENCE])
    return [
        {
            "size": f"{of[0]}x{of[1]}",
            "model": name,
            "mode": "jit" if compiled else "ops",
            "ms": float(np.median(times[name])),
            "ratio": float(np.median(times[name]) / base),
            "peak_mb": peaks[name],
        }
        for name, (_, compiled) in cases.items()
    ]


def describe(records):
    """A table in Markdown."""
    lines = [
        f"| size | model | mode | ms | x {REFERENCE}'s step | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['size']} | `{r['model']}` | {r['mode']} | {r['ms']:.1f} | {r['ratio']:.2f} | "
        f"{r['peak_mb']:.0f} |"
        for r in records
    ]
    return "\n".join(lines)


def main(arguments=None):
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=sizes, default=[(8, 4), (64, 8)])
    default = [name for name in MODELS if name not in MANY_EVALUATIONS]
    parser.add_argument("--models", type=common.words(MODELS), default=default)
    parser.add_argument("--draws", type=common.integer, default=100)
    parser.add_argument("--rounds", type=common.integer, default=7)
    parser.add_argument("--jit", choices=["auto", "on", "off"], default="auto")
    parser.add_argument("--json", help="a file for the records")
    given = parser.parse_args(arguments)
    if REFERENCE not in given.models:
        raise RebarError(f"--models must name {REFERENCE}, whose step is what others compare to")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    found = [row for of in given.sizes for row in rows(given.models, of, given)]
    print(describe(found))
    common.write_records(given.json, False, settings=vars(given), rows=found)


if __name__ == "__main__":
    common.run(main)
