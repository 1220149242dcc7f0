"""Signal-to-noise ratio of gradients of the multi-sample bound against the number of samples K.

    python benchmarks/signal_to_noise.py --figure=docs/figures/signal_to_noise.png

Trains a belief network on digits with VIMCO, freezes it, and measures every estimator of the bound,
and RWS, at one batch: the gradient of q's weights has the ratio

    |mean| / sqrt(sum of variances),    with |mean|^2 corrected for its own variance

for one estimate. Prints a table, draws a figure. The defaults take a few minutes on two cores.
"""

import argparse
import tempfile

import common
import numpy as np
import tensorflow as tf

import rebar
from rebar import registry, styles
from rebar.analysis.meter import Meter
from rebar.analysis.variance import fit_controls, fixed_batch
from rebar.hparams import HParams

ESTIMATORS = {
    "VIMCO": "SBNVIMCO",
    "VIMCO, arithmetic": "SBNVIMCO,vimco_mean=arithmetic",
    "OVIS": "SBNOVIS",
    "OVIS, 4 fresh samples": "SBNOVIS,ovis_samples=4",
    "OVIS, gamma = 1": "SBNOVIS,ovis_gamma=1",
    "LocalDisARM": "SBNLocalDisARM",
    "ARMS": "SBNARMS,multi_sample=true",
    "NVIL": "SBNNVIL,multi_sample=true",
    "RWS": "SBNRWS",
}
NOTES = {"OVIS, gamma = 1": "biased", "RWS": "another objective"}
FIT_STEPS = 300
SAMPLES = (2, 4, 8, 16, 32, 64)


def trained(units, epochs, k):
    """The model and its data."""
    with tempfile.TemporaryDirectory() as folder:
        run = rebar.train(
            model="SBNVIMCO",
            task="digits",
            n_hidden=units,
            n_samples=k,
            epochs=epochs,
            eval_freq=0,
            working_dir=folder,
            log_format="quiet",
        )
    return run.model, rebar.load_data("digits")


def ratio(model, text, k, x, draws):
    """The ratio of one estimator, and its standard error by leaving out groups of draws."""
    hparams = HParams.parse(f"model={text},n_samples={k}")
    estimator = registry.make_estimator(hparams.model, hparams)
    estimator.setup(model, 0)
    meter = Meter(model, estimator, k, jit=True, variables=model.inference_variables)
    if estimator.trainable_variables:  # NVIL's baseline
        fit_controls(model, estimator, x, k, FIT_STEPS, 0)
    sums = meter(x, draws, 0)
    values = [_ratio(*moments) for moments in [sums.moments(), *sums.leave_outs()]]
    groups = len(values) - 1
    return values[0], np.sqrt(
        (groups - 1) / groups * np.sum((values[1:] - np.mean(values[1:])) ** 2)
    )


def _ratio(n, mean, variance):
    total = variance.sum()
    return np.sqrt(max(np.sum(mean**2) - total / n, 0) / total)


def figure(table, samples):
    """A line per estimator."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(styles.RC):
        drawing = Figure(figsize=(8, 4), layout="constrained")
        axis = drawing.subplots()
        labels = list(table)
        for label, (color, marker) in zip(labels, styles.styles(labels), strict=True):
            values, errors = np.transpose(table[label])
            name = f"{label} ({NOTES[label]})" if label in NOTES else label
            dash = "--" if label in NOTES else "-"
            axis.errorbar(samples, values, errors, color=color, marker=marker, ls=dash, label=name)
        axis.set(xscale="log", yscale="log", xlabel="samples K", ylabel="signal-to-noise ratio")
        axis.set_title("Gradient of q's weights at a frozen model, digits")
        axis.set_xticks(samples, map(str, samples))
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
        drawing.legend(frameon=False, loc="outside right upper")
    return drawing


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=common.integer, default=50)
    parser.add_argument("--epochs", type=common.integer, default=20)
    parser.add_argument("--batch", type=common.integer, default=20)
    parser.add_argument("--draws", type=common.integer, default=1000)
    parser.add_argument("--samples", type=common.integers, default=list(SAMPLES))
    parser.add_argument("--figure", help="file of the figure, .png or .pdf")
    values = parser.parse_args()
    model, data = trained(values.units, values.epochs, 5)
    x = tf.cast(fixed_batch(data.train, values.batch, data.dynamic), model.compute_dtype)
    table = {}
    print(f"{'K':20}" + "".join(f"{k:>16}" for k in values.samples))
    for label, text in ESTIMATORS.items():
        table[label] = [ratio(model, text, k, x, values.draws) for k in values.samples]
        cells = "".join(f"{f'{value:.4f} +- {error:.4f}':>18}" for value, error in table[label])
        print(f"{label:20}{cells}", flush=True)
    if values.figure:
        from rebar.analysis import pictures

        pictures.save(figure(table, values.samples), values.figure)


if __name__ == "__main__":
    main()
