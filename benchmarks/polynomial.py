"""Minimize E sum_i |x_i - .45|^p over 128 bits x by different estimators: polynomial programming.

    python benchmarks/polynomial.py --figure=polynomial.png

The problem of Liu et al. (2023) and Gourevitch et al. (2026): x_i is the second category of a
variable of two, and x_i = 0 is optimal for every p. E f is .45^p plus .55^p - .45^p times the
probability of x_i = 1, on average over the variables; this probability is what the figure shows.
Logits start at 0; Adam with learning rate .05. Prints a table, draws a figure. Takes about two
minutes on one core.
"""

import argparse
import math

import common
import keras
import numpy as np
import tensorflow as tf

import rebar
from rebar import styles

TARGET, WIDTH, RATE = 0.45, 128, 0.05
EXPONENTS = (1.5, 2.0, 3.0)
REACHED = 0.01
"""Probability of the wrong value below which the optimum is reached."""

OPTIONS: dict[str, dict] = {
    "LOO": {},
    "IndeCateR": {},
    "ST": {},
    "DecoupledST": {"backward_temperature": 2.0},
    "ST-GS": {},
    "GumbelRao": {"mc_samples": 10},
    "GST": {},
    "ReinMax": {},
    "ReDGE": {"redge_steps": 3, "redge_end": 0.1},
    "ReinDGE": {"redge_end": 0.8},
}
"""Estimator -> its options: temperature 1, and for ReDGE and ReinDGE those of their authors."""


def train(label, steps, n_samples, seed=0):
    """Return the mean probability of x_i = 1 before every step and after the last, [steps + 1, p].

    Args:
      label: estimator, a key of OPTIONS.
      steps: gradient steps.
      n_samples: samples per step; 1 for IndeCateR, which evaluates all neighbors of a sample.
      seed: seed of the noise.
    """
    logits = tf.Variable(tf.zeros([WIDTH, 2]))
    exponent = tf.Variable(0.0, trainable=False)
    estimator = rebar.estimator(label, **OPTIONS[label])

    def objective(sample):
        x = sample.categorical("x", logits[tf.newaxis])[..., 1]
        return -tf.reduce_sum(tf.abs(x - TARGET) ** exponent, axis=1)

    @tf.function(autograph=False)
    def gradient(step):
        with tf.GradientTape() as tape:
            loss = rebar.estimate(
                objective, estimator=estimator, n_samples=n_samples, seed=seed, step=step
            ).loss
        return tape.gradient(loss, logits)

    curves = np.zeros([steps + 1, len(EXPONENTS)])
    for i, p in enumerate(EXPONENTS):
        exponent.assign(p)
        logits.assign(tf.zeros_like(logits))
        variable = keras.Variable(logits)
        optimizer = keras.optimizers.Adam(RATE)
        for step in range(steps + 1):
            logits.assign(variable)
            curves[step, i] = np.mean(tf.nn.softmax(logits)[:, 1])
            if step < steps:
                optimizer.apply([gradient(tf.constant(step))], [variable])
    return curves


def samples_of(label, n_samples):
    """Return the samples per step of an estimator."""
    return 1 if label == "IndeCateR" else n_samples


def evaluations(label, n_samples):
    """Return the evaluations of f per step."""
    estimator = rebar.estimator(label, **OPTIONS[label])
    return estimator.evaluations([(WIDTH, 2)], samples_of(label, n_samples))


def describe(curves, n_samples):
    """Return a table in Markdown of the probability of the wrong value after the last step."""
    lines = [
        f"| estimator | evaluations | {' | '.join(f'p = {p:g}' for p in EXPONENTS)} | optimum |",
        "|---" * (len(EXPONENTS) + 3) + "|",
    ]
    for label, curve in curves.items():
        reached = [f"{p:g}" for p, v in zip(EXPONENTS, curve[-1], strict=True) if v < REACHED]
        values = " | ".join(f"{value:.3f}" for value in curve[-1])
        optimum = "yes" if len(reached) == len(EXPONENTS) else ", ".join(reached) or "no"
        lines.append(f"| {label} | {evaluations(label, n_samples):g} | {values} | {optimum} |")
    return "\n".join(lines)


def draw(curves):
    """Return a figure with one panel per exponent."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(styles.RC):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        panels = figure.subplots(1, len(EXPONENTS), sharey=True)
        of_labels = styles.styles(list(curves))
        for i, (panel, p) in enumerate(zip(panels, EXPONENTS, strict=True)):
            for (label, curve), style in zip(curves.items(), of_labels, strict=True):
                panel.plot(
                    curve[:, i],
                    color=style.color,
                    marker=style.marker,
                    markevery=max(1, len(curve) // 6),
                    label=label,
                    linewidth=1.3,
                    markersize=5,
                )
            panel.set_title(f"p = {p:g}")
            panel.set_xlabel("gradient steps")
            panel.set_ylim(0, 0.65)
        panels[0].set_ylabel("mean probability of x = 1")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=math.ceil(len(labels) / 2))
    return figure


def main(arguments=None):
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--estimators", type=common.words(list(OPTIONS)), default=list(OPTIONS))
    parser.add_argument("--steps", type=common.integer, default=500)
    parser.add_argument("--samples", type=common.integer, default=64, help="per step")
    parser.add_argument("--figure", help="a .png file")
    given = parser.parse_args(arguments)
    curves = {
        label: train(label, given.steps, samples_of(label, given.samples))
        for label in given.estimators
    }
    print(describe(curves, given.samples))
    if given.figure:
        common.write_file(given.figure, styles.render(draw(curves), "png", 150))


if __name__ == "__main__":
    common.run(main)
