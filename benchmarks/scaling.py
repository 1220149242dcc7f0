"""How the time of a training step grows, one axis at a time.

    python benchmarks/scaling.py --json=scaling.json --figure=scaling.png
    python benchmarks/scaling.py --from_json=scaling.json --figure=scaling.png

The base case is a minibatch of 24 images, two linear layers of 200 units, one sample an image; one
of these four numbers changes at a time. A step is what `rebar_train.py` does, with the mode and the
threads that it would choose for the case; images are random, 784 pixels. Each case runs in a
process of its own, whose peak of resident memory, compilation included, is reported (`MB`, and
`of it start` for what TensorFlow takes before anything is built). `us a sample` is the time a step
takes for each image and sample. The default cases take about ten minutes on two cores, half of
them to start and to compile.
"""

import argparse
import io
import json
import statistics
from pathlib import Path

import common

from rebar.errors import RebarError

BASE = {"batch": common.BATCH, "layers": 2, "units": common.UNITS, "samples": 1}
AXES = {
    "batch": ("24,96,384,1536,3072", "Images a minibatch"),
    "layers": ("1,2,3,4", "Stochastic layers"),
    "units": ("200,400,800,1600", "Units a layer"),
    "samples": ("1,4,16,64", "Samples an image"),
}
"""Axis -> its default values and its title."""

_COLOURS = ("#0b5fa5", "#d1495b", "#2e8b57", "#8a5fbf", "#c77d0a", "#3a3a3a", "#17a2a2", "#a0522d")
_MARKERS = "osD^vPX*"


def case_worker(pipe, model, case, jit):
    """Sends what is known after the first block; answers a number of blocks with ms a step.

    False ends it; it then sends the peak of its resident memory in MB.
    """
    from rebar.hparams import HParams

    hparams = HParams(
        model=model,
        n_layer=case["layers"],
        n_hidden=case["units"],
        n_samples=case["samples"],
        batch_size=case["batch"],
        learning_rate=3e-4,
    )
    start = common.peak_memory()
    training = common.Training(hparams, jit)
    first_call = training.measure() * training.block / 1000
    pipe.send((training.mode, training.block, first_call, start))
    while blocks := pipe.recv():
        pipe.send(training.measure(blocks))
    pipe.send(common.peak_memory())


def measure(unit_clock, model, case, arguments):
    """The record of one case: rounds of equally many whole blocks, at most 100 steps each."""
    worker = common.Worker(case_worker, model, case, arguments.jit)
    mode, block, first_call, start = worker.receive()
    round_ms = 1000 * arguments.seconds / arguments.rounds
    blocks = max(1, min(100 // block, int(round_ms / (worker.measure(1) * block))))
    times, units = [], []
    for _ in range(arguments.rounds):
        units.append(unit_clock.measure())
        times.append(worker.measure(blocks))
    memory = worker.measure(False)
    worker.stop()
    median, unit = statistics.median(times), statistics.median(units)
    return {
        "model": model,
        **case,
        "mode": mode,
        "ms": round(median, 4),
        "ms_min": round(min(times), 4),
        "us_per_sample": round(1000 * median / (case["batch"] * case["samples"]), 3),
        "peak_memory_mb": round(memory),
        "start_memory_mb": round(start),
        "steps_a_round": blocks * block,
        "unit_us": round(1000 * unit, 2),
        "first_call_s": round(first_call, 2),
    }


def cases(arguments):
    """The base case and, for each axis, its values with the others as in the base case."""
    found = [BASE]
    for axis in AXES:
        for value in getattr(arguments, axis):
            case = BASE | {axis: value}
            if case not in found:
                found.append(case)
    return found


def measure_all(arguments):
    """Measure, print a table, write the records after each case; the records."""
    if arguments.pin:
        common.pin()
    unit_clock = common.Worker(common.unit_worker)
    unit_clock.measure()
    print(f"{common.cores()} cores, {common.PIXELS} pixels, linear, medians of rounds")
    print(
        "| model | batch | layers | units | samples | mode | ms | min | us a sample | MB "
        "| of it start |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    records = []
    for model in arguments.models:
        for case in cases(arguments):
            r = measure(unit_clock, model, case, arguments)
            records.append(r)
            print(
                f"| {model} | {r['batch']} | {r['layers']} | {r['units']} | {r['samples']} | "
                f"{r['mode']} | {r['ms']:.2f} | {r['ms_min']:.2f} | {r['us_per_sample']:.1f} | "
                f"{r['peak_memory_mb']} | {r['start_memory_mb']} |",
                flush=True,
            )
            common.write_records(arguments.json, arguments.pin, base=BASE, records=records)
    unit_clock.stop()
    return records


def line(records, model, axis):
    """Values of an axis and milliseconds a step, of a model with the rest as in the base case."""
    others = {name: value for name, value in BASE.items() if name != axis}
    points = sorted(
        (r[axis], r["ms"])
        for r in records
        if r["model"] == model and all(r[name] == value for name, value in others.items())
    )
    return [x for x, _ in points], [y for _, y in points]


def draw(records):
    """The four panels as a matplotlib Figure."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RebarError("--figure needs matplotlib; type: pip install matplotlib") from None
    made = Figure(figsize=(8.5, 6.6), layout="constrained")
    models = list(dict.fromkeys(r["model"] for r in records))
    for panel, (axis, (_, title)) in zip(made.subplots(2, 2).flat, AXES.items(), strict=True):
        lines = {model: line(records, model, axis) for model in models}
        _slope_one(panel, lines.values())
        for i, (model, (x, y)) in enumerate(lines.items()):
            marker, colour = _MARKERS[i % len(_MARKERS)], _COLOURS[i % len(_COLOURS)]
            panel.plot(x, y, marker=marker, color=colour, markersize=5, label=model)
        _label(panel, title, sorted({value for x, _ in lines.values() for value in x}))
    handles, labels = made.axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))
    return made


def _slope_one(panel, lines):
    """A thin grey line of slope 1 through the first point of the highest line."""
    lines = [(x, y) for x, y in lines if x]
    if not lines:
        return
    x, y = max(lines, key=lambda line: line[1][0])
    grown = [y[0] * value / x[0] for value in x]
    panel.plot(x, grown, color="0.65", linewidth=0.9, zorder=0, label="slope 1")


def _label(panel, title, values):
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel(title)
    panel.set_ylabel("Milliseconds a step")
    panel.xaxis.set_major_locator(FixedLocator(values))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter("{x:g}")
    low, high = panel.get_ylim()
    ticks = (1, 2, 5) if high > 9 * low else (1, 1.5, 2, 3, 5, 7)
    panel.yaxis.set_major_locator(LogLocator(subs=ticks))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.grid(color="0.92", linewidth=0.6)


def write_figure(records, path):
    """Draw the records to a file, whole or not at all."""
    content = io.BytesIO()
    draw(records).savefig(content, format=_suffix(path), dpi=160)
    common.write_file(path, content.getvalue())


def _suffix(path):
    """The format of a picture's file."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".pdf"):
        raise RebarError(f"cannot draw to {path!r}: its name must end in .png or .pdf")
    return suffix[1:]


def read_records(path):
    """The records of an earlier run."""
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise RebarError(f"cannot read {path!r}: {error}") from error
    if not isinstance(content, dict) or content.get("base") != BASE:
        raise RebarError(f"{path!r} is not of this program: its base case is not {BASE}")
    return content["records"]


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", **common.models("SBNNVIL,SBNDynamicRebar"))
    for axis, (values, title) in AXES.items():
        text = f"{title.lower()}: comma list (default: %(default)s)"
        parser.add_argument(f"--{axis}", default=values, type=common.integers, help=text)
    parser.add_argument("--jit", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--rounds", type=common.integer, default=7, help="times a case is measured")
    parser.add_argument("--seconds", type=common.integer, default=7, help="measured time of a case")
    parser.add_argument("--pin", action="store_true", help="use one core")
    parser.add_argument("--json", help="file to write the records to")
    parser.add_argument("--figure", help="file to draw the figure to, .png or .pdf")
    parser.add_argument("--from_json", help="draw these records, measure nothing")
    return parser.parse_args()


def main():
    """Measure or read, then draw."""
    arguments = _arguments()
    if arguments.figure:
        _suffix(arguments.figure)
    old = arguments.from_json
    records = read_records(old) if old else measure_all(arguments)
    if arguments.figure:
        write_figure(records, arguments.figure)


if __name__ == "__main__":
    common.run(main)
