"""What an average over K draws costs: training steps of a categorical VAE, and their parts.

    python benchmarks/straight_through.py --json=FILE

The network is 784-512-256-(L C) and back, plain products, by Adam; images are random. A step of
each estimator differs from ReinMax's in the sampler alone, and all are measured in turns, so that
the ratio to ReinMax's step is of the same minutes. Milliseconds are medians. The peak is the memory
that the process has had so far; cases run in the order of the table, the cheap ones first.
"""

import argparse
import itertools
import time

import common
import keras
import numpy as np
import tensorflow as tf

import rebar
from rebar import noise
from rebar.core import categorical, straight_through
from rebar.core.straight_through import FromUniforms, FromWords

WIDTHS = (784, 512, 256)
_RATE = 5e-4
DRAWN = ("gumbel_rao", "reinmax_rao", "reinmax_cv")
STEPS = {
    "reinmax": ("reinmax", {}),
    "st_gumbel": ("st_gumbel", {"temperature": 0.7}),
    "reinmax_rao": ("reinmax_rao", {}),
    "reinmax_rao, T = 0.7": ("reinmax_rao", {"temperature": 0.7}),
    "reinmax_cv": ("reinmax_cv", {}),
    "gumbel_rao, T = 0.7": ("gumbel_rao", {"temperature": 0.7}),
}
"""Row of the table -> layer and options."""


class Vae:
    """Encoder and decoder with ReLUs, and Adam."""

    def __init__(self, latents, categories, batch):
        self.shape = (batch, latents, categories)
        width = latents * categories
        encoder, decoder = (*WIDTHS, width), (width, *reversed(WIDTHS))
        random = np.random.default_rng(0)
        self.weights = []
        for widths in (encoder, decoder):
            for inputs, outputs in itertools.pairwise(widths):
                limit = inputs**-0.5
                shapes = ([inputs, outputs], [outputs])
                self.weights += [
                    keras.Variable(np.float32(random.uniform(-limit, limit, s))) for s in shapes
                ]
        self.adam = keras.optimizers.Adam(_RATE)
        self.adam.build(self.weights)

    def through(self, weights, x):
        """Three layers."""
        for i in range(0, len(weights), 2):
            x = tf.matmul(x, weights[i]) + weights[i + 1]
            x = tf.nn.relu(x) if i < len(weights) - 2 else x
        return x

    def step(self, layer, x, i):
        """One step on images x [batch, 784]; the loss."""
        half = len(self.weights) // 2
        with tf.GradientTape() as tape:
            logits = tf.reshape(self.through(self.weights[:half], x), self.shape)
            z = tf.reshape(layer(logits, i).z, [self.shape[0], -1])
            output = self.through(self.weights[half:], z)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=output)
            kl = categorical.kl_to(logits, tf.zeros(self.shape[-1]))
            loss = tf.reduce_mean(tf.reduce_sum(losses, axis=1) + tf.reduce_sum(kl, axis=1))
        self.adam.apply(tape.gradient(loss, self.weights), self.weights)
        return loss


def step_cases(given):
    """Name -> a function of a step's number that takes a training step."""
    x = tf.constant(common.random_images(given.batch), tf.float32)

    def case(name, options):
        vae = Vae(given.latents, given.categories, given.batch)
        options = options | ({"draws": given.draws} if name in DRAWN else {})

        def layer(logits, i):
            return rebar.straight_through.LAYERS[name](logits, seed=0, step=i, **options)

        return lambda i: vae.step(layer, x, i)

    return {f"step: {row}": case(*of) for row, of in STEPS.items()}


def part_cases(given):
    """Name -> a function of a number: what the average adds to a step, in parts."""
    shape = [given.batch, given.latents, given.categories]
    key = noise.key(0, "analysis")
    u, v, w = (
        noise.uniforms(noise.fold_in(key, i), extent)
        for i, extent in enumerate((shape, [given.draws, *shape], [2, *shape]))
    )
    logits, g = 4 * tf.unstack(w)[0], tf.unstack(w)[1]
    one_hot = categorical.hard_sample(logits, categorical.gumbels(u))
    e = categorical.exponentials(v)

    def rao(exponentials, temperature=1):
        return straight_through.reinmax_rao(logits, one_hot, g, exponentials, temperature)

    def scaled(i):
        # So that nothing is a constant that compilation could fold.
        return tf.cast(i, tf.float32) * 1e-9

    words = noise.words(key, [(given.draws + 1) // 2, *shape])
    return {
        "words, 16 bits a draw": lambda i: noise.words(noise.fold_in(key, i), words.shape),
        "uniforms": lambda i: noise.uniforms(noise.fold_in(key, i), v.shape),
        "-log of uniforms": lambda i: categorical.exponentials(v + scaled(i)),
        "uniforms, then -log": lambda i: categorical.exponentials(
            noise.uniforms(noise.fold_in(key, i), v.shape)
        ),
        "kernel of exponentials": lambda i: rao(e + scaled(i)),
        "kernel of words": lambda i: rao(FromWords(words + tf.cast(i, tf.uint32), given.draws)),
        "kernel of words, T = 0.7": lambda i: rao(
            FromWords(words + tf.cast(i, tf.uint32), given.draws), 0.7
        ),
        "kernel of uniforms": lambda i: rao(FromUniforms(v + scaled(i))),
    }


def measure(cases, rounds, jit):
    """Rows (name, mode, median ms, least ms, seconds of the first call, peak MB so far)."""
    made, first, peak = {}, {}, {}
    for name, case in cases.items():
        made[name] = tf.function(case, autograph=False, jit_compile=jit)
        start = time.perf_counter()
        for i in range(3):
            _wait(made[name](tf.constant(i)))
            if i == 0:
                first[name] = time.perf_counter() - start
        peak[name] = common.peak_memory()
    times = {name: [] for name in cases}
    for i in range(rounds):
        for name, function in made.items():
            # The first of two calls fills the cache with what this case needs.
            for _ in range(2):
                start = time.perf_counter()
                _wait(function(tf.constant(i)))
                last = time.perf_counter() - start
            times[name].append(1000 * last)
    mode = "jit" if jit else "ops"
    return [
        {
            "case": name,
            "mode": mode,
            "ms": float(np.median(times[name])),
            "least": min(times[name]),
            "first_s": first[name],
            "peak_mb": peak[name],
        }
        for name in cases
    ]


def _wait(result):
    """Until it is there."""
    tf.reshape(result, [-1])[0].numpy()


def describe(rows):
    """A table in Markdown."""
    base = {row["mode"]: row["ms"] for row in rows if row["case"] == "step: reinmax"}
    lines = [
        "| case | mode | ms | least | x ReinMax's step | first call s | peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = row["ms"] / base[row["mode"]]
        lines.append(
            f"| {row['case']} | {row['mode']} | {row['ms']:.1f} | {row['least']:.1f} | "
            f"{ratio:.2f} | {row['first_s']:.1f} | {row['peak_mb']:.0f} |"
        )
    return "\n".join(lines)


def main(arguments=None):
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--categories", type=common.integer, default=64)
    parser.add_argument("--latents", type=common.integer, default=8)
    parser.add_argument("--batch", type=common.integer, default=100)
    parser.add_argument("--draws", type=common.integer, default=100)
    parser.add_argument("--rounds", type=common.integer, default=20)
    parser.add_argument("--modes", type=common.words(["jit", "ops"]), default=["jit", "ops"])
    parser.add_argument("--json", help="a file for the records")
    given = parser.parse_args(arguments)
    rows = []
    for mode in given.modes:
        for cases in (step_cases(given), part_cases(given)):
            rows += measure(cases, given.rounds, mode == "jit")
    print(describe(rows))
    common.write_records(given.json, False, settings=vars(given), rows=rows)


if __name__ == "__main__":
    common.run(main)
