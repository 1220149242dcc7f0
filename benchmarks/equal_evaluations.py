"""Gradient variance of estimators for categorical latents against leave-one-out at equal cost.

    python benchmarks/equal_evaluations.py RUN_FOLDER ... --figure=equal_evaluations.png

At each trained categorical VAE, the folder of a run or one of its snapshots, frozen, and one batch
of training images: the total variance of the gradient of q's weights, of every estimator and of LOO
with as many evaluations of f per image. Prints a table of the ratios, draws a figure.
"""

import argparse
from pathlib import Path

import common
import numpy as np
import tensorflow as tf

import rebar
from rebar import registry, styles
from rebar.analysis.meter import Meter
from rebar.analysis.variance import fixed_batch
from rebar.core import families
from rebar.data.sources import task_title
from rebar.experiment import data_of
from rebar.hparams import HParams

ESTIMATORS = {
    "DisARM-SB": [""],
    "DisARM-Tree": [""],
    "DisARM-IW": [""],
    "CARMS": [f"n_samples=1,n_antithetic={k}" for k in (2, 4, 7)],
    "UNORD": [f"n_samples=1,n_codes={k}" for k in (2, 4, 7)],
    "ARSM": [""],
    "IndeCateR": [""],
    "SumAndSample": [""],
}
MOST_CHAINS = 120
"""Estimators with more evaluations per image are left out."""


def estimator_of(label, settings=""):
    """An estimator of a label, and its number of samples."""
    name = registry.labels("categorical")[label]
    hparams = HParams.parse(f"model={name}", settings or "n_samples=1")
    return registry.make_estimator(name, hparams), hparams.n_samples


def variance(model, x, estimator, n_samples, draws):
    """Total variance, and its standard error by leaving out groups of draws."""
    estimator.setup(model, 0)
    meter = Meter(model, estimator, n_samples, variables=model.inference_variables)
    sums = meter(x, draws, 0)
    totals = np.array([v.sum() for _, _, v in [sums.moments(), *sums.leave_outs()]])
    groups = len(totals) - 1
    error = np.sqrt((groups - 1) / groups * np.sum((totals[1:] - totals[1:].mean()) ** 2))
    return totals[0], error


def measured(model, x, draws):
    """Records of all estimators at a model: label, evaluations, variance, standard error."""
    shapes, records = families.shapes(model), []
    for label, all_settings in ESTIMATORS.items():
        for settings in all_settings:
            estimator, n_samples = estimator_of(label, settings)
            evaluations = int(estimator.evaluations(shapes, n_samples))
            if evaluations <= MOST_CHAINS:
                moments = variance(model, x, estimator, n_samples, draws)
                records.append((label, evaluations, *moments))
    for evaluations in sorted({record[1] for record in records}):
        estimator, n_samples = estimator_of("LOO", f"n_samples={evaluations}")
        records.append(("LOO", evaluations, *variance(model, x, estimator, n_samples, draws)))
    return records


def relative(records):
    """Label, evaluations, and variance and standard error in multiples of LOO's variance."""
    base = {evaluations: v for label, evaluations, v, _ in records if label == "LOO"}
    return [(label, n, v / base[n], error / base[n]) for label, n, v, error in records]


def table(records):
    """A table in Markdown."""
    lines = ["| estimator | evaluations | variance | of LOO's | +- |", "|---|---|---|---|---|"]
    for record, (label, n, ratio, error) in zip(records, relative(records), strict=True):
        lines.append(f"| {label} | {n} | {record[2]:.3g} | {ratio:.2f} | {error:.2f} |")
    return "\n".join(lines)


def figure(panels):
    """A panel per model, a line per estimator."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(styles.RC):
        drawing = Figure(figsize=(4.4 * len(panels), 4.2), layout="constrained")
        axes = drawing.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        labels = ["LOO", *ESTIMATORS]
        for axis, (title, records) in zip(axes, panels.items(), strict=True):
            for label, (color, marker) in zip(labels, styles.styles(labels), strict=True):
                points = [record[1:] for record in relative(records) if record[0] == label]
                if points:
                    x, y, errors = np.transpose(points)
                    axis.errorbar(x, y, errors, color=color, marker=marker, label=label)
            axis.set(title=title, xscale="log", yscale="log", xlabel="evaluations per image")
            ticks = sorted({record[1] for record in records})
            axis.set_xticks(ticks, map(str, ticks))
            axis.minorticks_off()
        axes[0].set_ylabel("variance / variance of LOO")
        axes[0].yaxis.set_major_formatter("{x:g}")
        handles = axes[0].get_legend_handles_labels()
        drawing.legend(*handles, loc="outside lower center", ncols=5, frameon=False)
    return drawing


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="runs or snapshots")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--batch", type=common.integer, default=100)
    parser.add_argument("--draws", type=common.integer, default=200)
    parser.add_argument("--figure", help="file of the figure, .png or .pdf")
    given = parser.parse_args()
    panels = {}
    for folder in given.folders:
        run = rebar.load_model(folder)
        data = data_of(run, given.data_dir)
        x = tf.cast(fixed_batch(data.train, given.batch, data.dynamic), run.model.compute_dtype)
        size = f"{run.hparams.n_categories}x{run.hparams.n_latents}"
        epoch = run.step * run.hparams.batch_size / len(data.train)
        title = f"{size}, {task_title(run.hparams.task)}, epoch {epoch:g}"
        panels[title] = measured(run.model, x, given.draws)
        print(f"{title}\n\n{table(panels[title])}\n", flush=True)
    if given.figure:
        from rebar.analysis import pictures

        pictures.save(figure(panels), given.figure)


if __name__ == "__main__":
    common.run(main)
