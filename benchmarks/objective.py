"""Milliseconds per gradient estimate: `rebar.estimate` against the built-in model.

    python benchmarks/objective.py --models=SBNDisARM,SBNNVIL,SBNRebar

Both compute the gradient of the two-layer linear SBN (200 units) and of the control variates at 24
random images, in a compiled loop, in turns. The built-in model runs without its fast path for
linear networks. The objective is the same model, written down in 20 lines with the same weights.
"""

import argparse
import statistics
import time

import common
import numpy as np
import tensorflow as tf

import rebar
from rebar import noise, registry
from rebar.core import bernoulli
from rebar.models.sbn import SigmoidBeliefNetwork

STEPS = 50


def objective_of(model):
    """The ELBO of an SBN as a function with sample sites."""
    q, p = model.recognition.transformations, model.generator.transformations

    def elbo(sample, x):
        b = sample.bernoulli("b_1", q[0](x - model.input_mean))
        below = 2 * b - 1
        c = sample.bernoulli("b_2", q[1](below))
        prior = tf.convert_to_tensor(model.prior.logits)[tf.newaxis]
        log_p = bernoulli.log_prob(c, prior)
        log_p += bernoulli.log_prob(b, p[0](2 * c - 1))
        log_p += bernoulli.log_prob(x, p[1](below) + model.generator.output_bias)
        return log_p - sample.log_q

    return elbo


def loop(step):
    """Compiled function of the first step's number that repeats `step` STEPS times."""

    def body(i, total):
        gradients = step(i)
        return i + 1, total + tf.add_n([tf.reduce_sum(tf.abs(g)) for g in gradients])

    def run(first):
        return tf.while_loop(
            lambda i, _: i < first + STEPS, body, (first, tf.constant(0.0)), parallel_iterations=1
        )[1]

    return tf.function(run, autograph=False, jit_compile=True)


def steps(name, x):
    """The loops of the built-in model and of the objective."""
    model = SigmoidBeliefNetwork((common.UNITS, common.UNITS), np.full(x.shape[1], 0.5))
    model.linear_inputs = lambda *_: None
    samples = registry.entry(name).n_samples(1)
    built_in, foreign = registry.target(name)(), registry.target(name)()
    built_in.setup(model)
    key = noise.key(0, "latents")

    def of_model(step):
        draws = noise.latents(noise.fold_in(key, step), samples, len(x), model.n_units)
        estimate = built_in.estimate(model, x, draws)
        return [*estimate.gradients, *estimate.control_gradients]

    elbo, variables = objective_of(model), model.trainable_variables

    def of_objective(step):
        with tf.GradientTape(persistent=True) as tape:
            estimate = rebar.estimate(
                elbo, x, estimator=foreign, n_samples=samples, seed=0, step=step
            )
        learned = foreign.trainable_variables
        return [
            *tape.gradient(estimate.loss, variables),
            *(tape.gradient(estimate.control_loss, learned) if learned else []),
        ]

    rebar.estimate(elbo, x, estimator=foreign, n_samples=samples, seed=0, step=0)  # creates weights
    return loop(of_model), loop(of_objective)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default="SBNDisARM,SBNNVIL,SBNRebar,SBNDynamicRebar,SBNRelax")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    x = tf.constant(np.random.default_rng(0).integers(0, 2, (common.BATCH, 784)), tf.float32)
    print(f"{'model':18s} built-in ms  objective ms  ratio")
    for name in arguments.models.split(","):
        loops, times = steps(name, x), ([], [])
        for i in range(arguments.rounds + 1):
            for function, of in zip(loops, times, strict=True):
                start = time.perf_counter()
                function(tf.constant(i * STEPS)).numpy()
                of.append(1000 * (time.perf_counter() - start) / STEPS)
        ratios = [b / a for a, b in zip(times[0][1:], times[1][1:], strict=True)]
        medians = [statistics.median(of[1:]) for of in times]
        print(
            f"{name:18s} {medians[0]:11.3f}  {medians[1]:12.3f}  {statistics.median(ratios):5.2f}"
        )


if __name__ == "__main__":
    main()
