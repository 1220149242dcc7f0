"""Models and surrogate posteriors written with TensorFlow Probability alone, with exact means.

Each is a `Problem` whose objective is `rebar.tfp.elbo`; its terms are log probabilities of all
states, and nodes of continuous sites, by TensorFlow Probability.
"""

import itertools

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import rebar
from tests.objectives.problems import Problem, bits

tfd = tfp.distributions
Root = tfd.JointDistributionCoroutine.Root
NODES = 12
"""Gauss-Hermite nodes per continuous dimension."""


def _variables(seed: int, scale: float, **shapes) -> dict[str, tf.Variable]:
    generator = np.random.default_rng(seed)
    return {n: tf.Variable(scale * generator.normal(size=s), name=n) for n, s in shapes.items()}


def _problem(name, families, variables, model, posterior, terms) -> Problem:
    """Problem without arguments: their rows are those of the samples."""
    objective = rebar.tfp.elbo(model, posterior)
    return Problem(
        name,
        frozenset(families),
        variables,
        (tf.zeros([1, 0], tf.float64),),
        lambda sample, rows: objective(sample),
        lambda rows: [tf.reshape(values, [-1, 1]) for values in terms()],
    )


def _bernoulli(logits, name=None):
    return tfd.Independent(tfd.Bernoulli(logits, dtype=tf.float64), 1, name=name)


def _one_hot(logits, name="OneHotCategorical"):
    return tfd.OneHotCategorical(logits, dtype=tf.float64, name=name)


def _linear(x, weights):
    """[..., n] @ [n, m], also for a vector x."""
    return tf.linalg.matvec(weights, x, transpose_a=True)


def _states(*sites):
    """All combinations of the states of sites, one array per site."""
    return [
        tf.constant(np.stack(column)) for column in zip(*itertools.product(*sites), strict=True)
    ]


def belief_network(seed=3, scale=0.7) -> Problem:
    """Two layers of two Bernoulli units: coroutines, the posterior upwards, the model downwards."""
    v = _variables(seed, scale, w=(2,), v=(2, 2), prior=(2,), u=(2, 2), p=(2, 3))

    def posterior():
        b = yield Root(_bernoulli(v["w"], "b"))
        yield _bernoulli(_linear(b, v["v"]), "c")

    def model():
        c = yield Root(_bernoulli(v["prior"], "c"))
        b = yield _bernoulli(_linear(c, v["u"]), "b")
        yield _bernoulli(_linear(b, v["p"]), "x")

    posterior, model = map(tfd.JointDistributionCoroutine, (posterior, model))
    model = model.experimental_pin(x=tf.constant([1.0, 0.0, 1.0], tf.float64))

    def terms():
        b, c = _states(bits(2), bits(2))
        log_q = posterior.log_prob(b, c)
        return tf.ones_like(log_q), log_q, model.log_prob(b=b, c=c) - log_q

    return _problem("belief_network", ["bernoulli"], v, model, posterior, terms)


def assignment(seed=1, scale=0.7) -> Problem:
    """The mixture of tensorflow/probability issue 1534: integer assignment, Gaussian means."""
    v = _variables(seed, scale, loc=(2,), raw_scale=(2,), logits=(2,))

    model = tfd.JointDistributionNamedAutoBatched(
        {
            "mu": tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 1.0), 2),
            "z": tfd.Categorical(probs=tf.constant([0.5, 0.5], tf.float64)),
            "x": lambda mu, z: tfd.Normal(tf.gather(mu, z), 1.0),
        }
    ).experimental_pin(x=tf.constant(1.3, tf.float64))

    def deviation():
        return 0.2 + tf.nn.softplus(v["raw_scale"])

    posterior = tfd.JointDistributionNamed(
        {
            "mu": lambda: tfd.MultivariateNormalDiag(v["loc"], deviation()),
            "z": tfd.Categorical(logits=v["logits"]),
        }
    )

    def terms():
        t, weights = np.polynomial.hermite.hermgauss(NODES)
        nodes = np.stack([t * 2**0.5, weights / np.pi**0.5], axis=1)
        z, first, second = _states(np.arange(2), nodes, nodes)
        weights = first[:, 1] * second[:, 1]
        mu = v["loc"] + deviation() * tf.stack([first[:, 0], second[:, 0]], axis=1)
        log_z = tf.gather(tf.nn.log_softmax(v["logits"]), z)
        return weights, log_z, model.log_prob(mu=mu, z=z) - posterior.log_prob(mu=mu, z=z)

    return _problem("assignment", ["categorical"], v, model, posterior, terms)


def mixed(seed=1, scale=0.7) -> Problem:
    """Two Bernoulli units, a Gaussian given them, and a categorical variable: autobatched."""
    v = _variables(seed, scale, b=(2,), loc=(2,), width=(), c=(3,), p=(6,))

    def posterior():
        b = yield tfd.Bernoulli(v["b"], dtype=tf.float64, name="b")
        deviation = 0.2 + tf.nn.softplus(v["width"])
        z = yield tfd.Normal(tf.reduce_sum(b * v["loc"]), deviation, name="z")
        yield _one_hot(tf.sin(z) * v["c"], "c")

    def model():
        c = yield _one_hot(tf.zeros([3], tf.float64), "c")
        b = yield tfd.Bernoulli(tf.zeros([2], tf.float64), dtype=tf.float64, name="b")
        z = yield tfd.Normal(tf.zeros([], tf.float64), 1.0, name="z")
        inputs = tf.concat([b, tf.sin(z)[tf.newaxis], c], axis=0)
        yield tfd.Normal(tf.reduce_sum(inputs * v["p"]), 1.0, name="x")

    posterior, model = map(tfd.JointDistributionCoroutineAutoBatched, (posterior, model))
    model = model.experimental_pin(x=tf.constant(0.8, tf.float64))

    def terms():
        t, weights = np.polynomial.hermite.hermgauss(2 * NODES)
        nodes = np.stack([t * 2**0.5, weights / np.pi**0.5], axis=1)
        b, c, node = _states(bits(2), np.eye(3), nodes)
        z = tf.linalg.matvec(b, v["loc"]) + (0.2 + tf.nn.softplus(v["width"])) * node[:, 0]
        logits = tf.sin(z)[:, tf.newaxis] * v["c"]
        log_discrete = _bernoulli(v["b"]).log_prob(b) + _one_hot(logits).log_prob(c)
        log_q = posterior.log_prob(b=b, z=z, c=c)
        return node[:, 1], log_discrete, model.log_prob(b=b, z=z, c=c) - log_q

    return _problem("mixed", ["bernoulli", "categorical"], v, model, posterior, terms)


def chain(seed=1, scale=1.2) -> Problem:
    """Three one-hot variables, each given the one before; sequential distributions."""
    v = _variables(seed, scale, a=(3,), b=(3, 3), c=(3, 3), p=(3, 3), x=(3,))
    posterior = tfd.JointDistributionSequential(
        [
            _one_hot(v["a"]),
            lambda a: _one_hot(_linear(a, v["b"])),
            lambda b, a: _one_hot(_linear(b, v["c"])),
        ]
    )
    model = tfd.JointDistributionSequential(
        [
            _one_hot(tf.zeros([3], tf.float64)),
            lambda a: _one_hot(_linear(a, v["p"])),
            lambda b, a: _one_hot(_linear(a + b, v["p"])),
            lambda c: tfd.Normal(tf.reduce_sum(c * v["x"], axis=-1), 1.0),
        ]
    ).experimental_pin(None, None, None, tf.constant(0.5, tf.float64))

    def terms():
        values = _states(*[np.eye(3)] * 3)
        log_q = posterior.log_prob(values)
        return tf.ones_like(log_q), log_q, model.log_prob(*values) - log_q

    return _problem("chain", ["categorical"], v, model, posterior, terms)
