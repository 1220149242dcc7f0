"""Minimize E (b - 0.499)^2 by the logit of one unit b, with every method of `estimate_gradient`.

    python benchmarks/toy.py --figure=docs/figures/toy.png

The problem of Tucker et al. (2017, there 0.45) and Grathwohl et al. (2018, 0.499): b should be 0,
which is better than 1 by 0.002 only. A batch is a number of independent runs, each with a logit
(from 0, by plain gradient steps) and, where the method learns, a temperature, a scale and a network
of its own (by Adam, on the square of the gradient). At points along training the variance of
the estimate is measured with everything frozen, over fresh noise. Prints a table, draws a figure.
The defaults take 20 seconds to a minute on two cores.
"""

import argparse
import io
import math
import re
from typing import NamedTuple

import common
import keras
import numpy as np
import tensorflow as tf

import rebar
from rebar import noise
from rebar.errors import RebarError
from rebar.functional.methods import METHODS
from rebar.styles import STYLES

TARGET = 0.499
BEST, WORST = TARGET**2, (1 - TARGET) ** 2
_HIDDEN, _RATES = 10, (0.01, 0.0001)
QUANTILES = (0.1, 0.5, 0.9)
RUNS_DRAWN = 12
_ROUNDING = 1e-25
_TITLES = {
    "reinforce": "REINFORCE",
    "loo": "LOO, 2 samples",
    "arm": "ARM",
    "disarm": "DisARM",
    "rebar": "REBAR",
    "relax": "RELAX",
    "gumbel": "Gumbel (biased)",
}
_STYLES = {method: STYLES[re.match(r"\w+", title)[0]] for method, title in _TITLES.items()}


class Curves(NamedTuple):
    """Of one method.

    Attributes:
      steps: [P] where the rest was measured.
      loss: [P, R] E (b - TARGET)^2 of each run.
      variance: [P, R] of the estimate of its gradient.
      temperature: [R] learned by REBAR and RELAX, at the end.
    """

    steps: np.ndarray
    loss: np.ndarray
    variance: np.ndarray
    temperature: np.ndarray


def reward(b):
    """-(b - TARGET)^2: [N, 1] -> [N]."""
    return -tf.square(b[:, 0] - TARGET)


def make_learned(runs, seed):
    """What the control variates of `runs` runs learn: name -> variable, one row a run."""
    u = noise.uniforms(noise.key(seed, "initialize"), [runs, _HIDDEN], tf.float64)
    starts = {
        "log_temperature": tf.fill([runs, 1], tf.constant(math.log(0.5), tf.float64)),
        "raw_scale": tf.zeros([runs], tf.float64),
        "weights": 4 * u - 2,
        "biases": tf.zeros([runs, _HIDDEN], tf.float64),
        "weights_out": tf.zeros([runs, _HIDDEN], tf.float64),
        "bias_out": tf.zeros([runs], tf.float64),
    }
    return {name: tf.Variable(start, name=name) for name, start in starts.items()}


def estimate(method, logits, learned, seed, step, differentiable=False):
    """The gradient [N, 1] at logits [N, 1]; rows of `learned` belong to rows of logits."""
    options = {}
    if method in ("rebar", "relax"):
        options = {
            "temperature": tf.exp(learned["log_temperature"]),
            "scale": 2 * tf.sigmoid(learned["raw_scale"]),
            "differentiable": differentiable,
        }
    if method == "relax":

        def network(z):
            hidden = tf.tanh((2 * tf.sigmoid(z) - 1) * learned["weights"] + learned["biases"])
            return tf.reduce_sum(hidden * learned["weights_out"], axis=1) + learned["bias_out"]

        options["network"] = network
    return rebar.estimate_gradient(method, reward, logits, seed=seed, step=step, **options).gradient


def train(method, runs, steps, every, learning_rate, draws, seed=0):
    """Train `runs` runs at once; returns Curves."""
    logits = tf.Variable(tf.zeros([runs, 1], tf.float64))
    learned = make_learned(runs, seed)
    taught = {"rebar": list(learned.values())[:2], "relax": list(learned.values())}.get(method)
    if taught:
        adam = keras.optimizers.Adam(
            keras.optimizers.schedules.ExponentialDecay(_RATES[0], steps, _RATES[1] / _RATES[0])
        )
        adam.build(taught)

    @tf.function(jit_compile=True, autograph=False)
    def block(first):
        def step(i):
            with tf.GradientTape() as tape:
                g = estimate(method, logits, learned, (seed, 0), i, differentiable=True)
                squares = tf.reduce_sum(tf.square(g))
            if taught:
                adam.apply(tape.gradient(squares, taught), taught)
            logits.assign_add(learning_rate * g)
            return i + 1

        return tf.while_loop(lambda i: i < first + every, step, [first])

    @tf.function(jit_compile=True, autograph=False)
    def variance(step):
        rows = tf.nest.map_structure(
            lambda v: tf.repeat(v, draws, axis=0), {"logits": logits, **learned}
        )
        g = estimate(method, rows.pop("logits"), rows, (seed, 1), step)
        return tf.math.reduce_variance(tf.reshape(g, [runs, draws]), axis=1)

    points = range(0, steps + 1, every)
    loss, variances = [], []
    for point in points:
        if point:
            block(tf.constant(point - every))
        p = tf.sigmoid(logits).numpy()[:, 0]
        loss.append(p * WORST + (1 - p) * BEST)
        variances.append(variance(tf.constant(point)).numpy())
    temperature = np.exp(learned["log_temperature"].numpy()[:, 0])
    return Curves(np.array(points), np.array(loss), np.array(variances), temperature)


def draw(curves):
    """A Figure: on the left the loss of each method's runs, on the right all log variances."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RebarError("the figure needs matplotlib; type: pip install matplotlib") from None
    made = Figure(figsize=(13, 5), layout="constrained")
    panels, right = made.subfigures(1, 2, width_ratios=[1.25, 1])
    small = panels.subplots(2, 4, sharex=True, sharey=True).ravel()
    axis = right.subplots()
    for panel, (method, found) in zip(small, curves.items(), strict=False):
        dashes = "-" if METHODS[method].unbiased else (0, (4, 2))
        color, marker = _STYLES[method]
        style = {"color": color, "linestyle": dashes, "linewidth": 1.8}
        panel.plot(found.steps, found.loss[:, :RUNS_DRAWN], color=color, lw=0.5, alpha=0.5)
        panel.plot(found.steps, found.loss.mean(axis=1), **style)
        panel.set_title(_TITLES[method], fontsize=9, color=color)
        low, median, high = log_quantiles(found.variance)
        style |= {"marker": marker, "markersize": 5, "markevery": max(1, len(median) // 8)}
        axis.plot(found.steps, median, label=_TITLES[method], **style)
        axis.fill_between(found.steps, low, high, color=color, alpha=0.13, linewidth=0)
    for panel in small[len(curves) :]:
        panel.axis("off")
    for panel in [*small[: len(curves)], axis]:
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0.01)
        panel.tick_params(labelsize=8)
        panel.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
    for panel in small[: len(curves)]:
        panel.axhline(BEST, color="#888888", linewidth=0.8, linestyle=":")
        panel.set_ylim(BEST - 0.0001, WORST + 0.0001)
        panel.ticklabel_format(axis="y", useOffset=False)
    axis.set_xlabel("training steps", fontsize=9)
    axis.set_ylabel("ln(variance of the gradient)", fontsize=9)
    panels.supxlabel("training steps", fontsize=9)
    panels.supylabel("E (b - 0.499)²", fontsize=9)
    panels.suptitle(
        f"Loss: {RUNS_DRAWN} runs (thin), mean of all (thick), optimum (dotted)", fontsize=10
    )
    right.suptitle("Gradient variance: median, 10% to 90% of runs", fontsize=10)
    right.legend(*axis.get_legend_handles_labels(), loc="outside right center", frameon=False)
    return made


def log_quantiles(variance):
    """Quantiles over runs of the natural log: [P, R] -> 3 x [P]; nan where it is only rounding."""
    quantiles = np.quantile(variance, QUANTILES, axis=1)
    return np.log(np.where(quantiles > _ROUNDING, quantiles, np.nan))


def describe(curves):
    """A table in Markdown: medians where each method ends, and the share of runs gone astray."""
    lines = [
        "| method | unbiased | evaluations of f | p at the end, 10% to 90% | runs with p > 1/2 | "
        "ln variance: first | middle | last | T at the end, 10% to 90% |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method, found in curves.items():
        p = (found.loss[-1] - BEST) / (WORST - BEST)
        low, median, high = np.quantile(p, QUANTILES)
        temperatures = ""
        if "differentiable" in METHODS[method].defaults:
            ends = [f"{t:.3g}" for t in np.quantile(found.temperature, QUANTILES)]
            temperatures = f"{ends[1]}, {ends[0]} to {ends[2]}"
        logs = log_quantiles(found.variance)[1]
        cells = " | ".join(
            "none" if np.isnan(logs[i]) else f"{logs[i]:.1f}" for i in (0, len(logs) // 2, -1)
        )
        lines.append(
            f"| {method} | {'yes' if METHODS[method].unbiased else 'no'} | "
            f"{METHODS[method].evaluations} | {median:.3f}, {low:.3f} to {high:.3f} | "
            f"{np.mean(p > 0.5):.0%} | {cells} | {temperatures} |"
        )
    return "\n".join(lines)


def main(arguments=None):
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--methods",
        type=common.words(list(_TITLES)),
        default=list(_TITLES),
        help="a comma list of: " + ", ".join(_TITLES),
    )
    parser.add_argument("--runs", type=common.integer, default=50)
    parser.add_argument("--steps", type=common.integer, default=50_000)
    parser.add_argument("--every", type=common.integer, default=500, help="steps between points")
    parser.add_argument("--learning_rate", type=float, default=0.2, help="of the logit")
    parser.add_argument("--draws", type=common.integer, default=500, help="for a variance")
    parser.add_argument("--figure", help="a .png file")
    given = parser.parse_args(arguments)
    curves = {}
    for method in given.methods:
        curves[method] = train(
            method, given.runs, given.steps, given.every, given.learning_rate, given.draws
        )
    print(describe(curves))
    if given.figure:
        content = io.BytesIO()
        draw(curves).savefig(content, format="png", dpi=150)
        common.write_file(given.figure, content.getvalue())


if __name__ == "__main__":
    common.run(main)
