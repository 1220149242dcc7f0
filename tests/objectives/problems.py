"""Foreign objectives whose mean can be summed exactly, each written twice.

`objective` is what a user writes, with sample sites. `terms` is the same function of all states of
the discrete sites, and nodes of the continuous one, without anything of the package: log q and f of
each state, from which the mean of f, the multi-sample bound and their derivatives follow.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

NODES = 40
"""Gauss-Hermite nodes; the test of the references doubles them."""


class Problem(NamedTuple):
    """An objective and its exact mean.

    Attributes:
      name: for test names.
      families: of its discrete sites.
      variables: name -> variable.
      args: arguments of the objective, of a few examples.
      objective: f(sample, *args).
      terms: (*args) -> weights [states, 1] of states, log q and f [states, B].
      baseline: () -> baseline of the arguments, or None: the default.
    """

    name: str
    families: frozenset
    variables: dict[str, tf.Variable]
    args: tuple
    objective: Callable
    terms: Callable
    baseline: Callable = lambda: None

    def value(self, *args) -> tf.Tensor:
        """Mean of f, [B]."""
        weights, log_q, f = self.terms(*args)
        return tf.reduce_sum(weights * tf.exp(log_q) * f, axis=0)

    def bound(self, *args) -> tf.Tensor:
        """Mean of the two-sample bound log 1/2 (exp f_1 + exp f_2), [B]."""
        weights, log_q, f = self.terms(*args)
        q = weights * tf.exp(log_q) * tf.ones_like(f)
        pairs = tf.reduce_logsumexp([f[:, tf.newaxis] + 0 * f, 0 * f[:, tf.newaxis] + f], axis=0)
        return tf.einsum("ib,jb,ijb->b", q, q, pairs - math.log(2))

    def exact(self, bound: bool = False) -> list:
        """Gradient of minus the mean over examples, per variable."""
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean((self.bound if bound else self.value)(*self.args))
        return [g.numpy() for g in tape.gradient(loss, list(self.variables.values()))]


def small_baseline() -> keras.Model:
    """A user's baseline, [B, D] -> [B]."""
    dense = [keras.layers.Dense(n, a, dtype="float64") for n, a in ((4, "tanh"), (1, None))]
    return keras.Sequential([*dense, keras.layers.Reshape((), dtype="float64")])


def bits(n: int) -> np.ndarray:
    """All states [2^n, n]."""
    return np.array(list(itertools.product((0.0, 1.0), repeat=n)))


def bernoulli(b, logits):
    """log probability, summed over the last axis."""
    return tf.reduce_sum(b * logits - tf.nn.softplus(logits), axis=-1)


def normal(x, loc, scale):
    """log density, elementwise."""
    scale = tf.convert_to_tensor(scale, tf.float64)
    return -0.5 * (tf.square((x - loc) / scale) + math.log(2 * math.pi)) - tf.math.log(scale)


def _variables(seed: int, scale: float, **shapes) -> dict[str, tf.Variable]:
    generator = np.random.default_rng(seed)
    return {
        name: tf.Variable(generator.normal(size=shape) * scale, name=name)
        for name, shape in shapes.items()
    }


def _data(*shape) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(size=shape))


def log_joint_of_binary(v, x, b, c):
    """log p(x, b, c) of `two_binary_sites` with variables v."""
    return bernoulli(c, v["prior"]) + bernoulli(b, c @ v["u"]) + bernoulli(x, b @ v["p"])


def two_binary_sites(seed=38, scale=0.7) -> Problem:
    """A belief network of 2 + 2 Bernoulli units."""
    v = _variables(seed, scale, w=(4, 2), v=(2, 2), prior=(2,), u=(2, 2), p=(2, 4))
    x = tf.constant(bits(4)[[3, 6, 13]])

    log_joint = functools.partial(log_joint_of_binary, v)

    def objective(sample, x):
        b = sample.bernoulli("b", x @ v["w"])
        c = sample.bernoulli("c", b @ v["v"])
        return log_joint(x, b, c) - sample.log_q

    def terms(x):
        states = bits(4)[:, tf.newaxis]
        b, c = tf.constant(states[..., :2]), tf.constant(states[..., 2:])
        log_q = bernoulli(b, x @ v["w"]) + bernoulli(c, b @ v["v"])
        return 1.0, log_q, log_joint(x, b, c) - log_q

    return Problem("binary", frozenset(["bernoulli"]), v, (x,), objective, terms, small_baseline)


def mixture(seed=26, scale=1.5) -> Problem:
    """Posterior of a mixture of 4 Gaussians: one categorical site."""
    v = _variables(seed, scale, a=(2, 4), means=(4, 2), prior=(4,))
    x = _data(3, 2)

    def log_joint(x, c):
        log_prior = tf.reduce_sum(c * tf.nn.log_softmax(v["prior"]), axis=-1)
        distances = tf.square(x[:, tf.newaxis] - v["means"])
        return log_prior - tf.reduce_sum(c * tf.reduce_sum(distances, axis=-1), axis=-1)

    def objective(sample, x):
        c = sample.categorical("c", x @ v["a"])
        return log_joint(x, c) - sample.log_q

    def terms(x):
        c = tf.eye(4, dtype=tf.float64)[:, tf.newaxis]
        log_q = tf.reduce_sum(c * tf.nn.log_softmax(x @ v["a"]), axis=-1)
        return 1.0, log_q, log_joint(x, c) - log_q

    return Problem("mixture", frozenset(["categorical"]), v, (x,), objective, terms)


def two_categorical_sites(seed=1, scale=1.0) -> Problem:
    """Two variables of 3 categories, and one of 4 given them."""
    v = _variables(seed, scale, w=(2, 6), u=(6, 4), p=(10, 2))
    x = _data(3, 2)

    def log_joint(x, b, c):
        flat = tf.reshape(b, tf.concat([tf.shape(b)[:-2], [6]], axis=0))
        prediction = tf.tanh(flat @ v["p"][:6] + c @ v["p"][6:])
        return tf.reduce_sum(normal(x, prediction, 1.0), axis=-1)

    def objective(sample, x):
        b = sample.categorical("b", tf.reshape(x @ v["w"], [-1, 2, 3]))
        c = sample.categorical("c", tf.reshape(b, [-1, 6]) @ v["u"])
        return log_joint(x, b, c) - sample.log_q

    def terms(x):
        index = np.array([*itertools.product(range(3), range(3), range(4))])
        b = tf.constant(np.eye(3)[index[:, :2]][:, np.newaxis])
        c = tf.constant(np.eye(4)[index[:, 2]][:, np.newaxis])
        of_b = tf.nn.log_softmax(tf.reshape(x @ v["w"], [-1, 2, 3]))
        of_c = tf.nn.log_softmax(tf.reshape(b, [-1, 1, 6]) @ v["u"])
        log_q = tf.reduce_sum(b * of_b, axis=[-2, -1]) + tf.reduce_sum(c * of_c, axis=-1)
        return 1.0, log_q, log_joint(x, b, c) - log_q

    families = frozenset(["categorical"])
    return Problem("categories", families, v, (x,), objective, terms, small_baseline)


def mixed(seed=95, scale=1.0) -> Problem:
    """Two Bernoulli units, a Gaussian given them, and a categorical variable given that."""
    v = _variables(seed, scale, w=(2, 2), loc=(2, 1), width=(), u=(1, 3), p=(2 + 1 + 3, 2))
    x = _data(3, 2)

    def posterior_of_z(b):
        return b @ v["loc"], 0.2 + 0.3 * tf.sigmoid(v["width"])

    def logits_of_c(z):
        return tf.sin(z) @ v["u"]

    def log_joint(x, b, z, c):
        parts = [b, tf.sin(z), c]
        prediction = tf.concat(parts, axis=-1) @ v["p"]
        return tf.reduce_sum(normal(x, prediction, 1.0), axis=-1) + normal(z, 0.0, 1.0)[..., 0]

    def objective(sample, x):
        b = sample.bernoulli("b", x @ v["w"])
        loc, scale = posterior_of_z(b)
        z = sample("z", tfp.distributions.Independent(tfp.distributions.Normal(loc, scale), 1))
        c = sample.categorical("c", logits_of_c(z))
        return log_joint(x, b, z, c) - sample.log_q

    def terms(x):
        t, weights = np.polynomial.hermite.hermgauss(NODES)
        nodes = np.stack([t * 2**0.5, weights / np.pi**0.5], axis=1)
        columns = zip(*itertools.product(bits(2), np.eye(3), nodes), strict=True)
        b, c, nodes = (
            tf.constant(np.repeat(np.stack(column)[:, np.newaxis], len(x), axis=1))
            for column in columns
        )
        node, weights = nodes[..., :1], nodes[:, :1, 1]
        loc, scale = posterior_of_z(b)
        z = loc + scale * node
        log_discrete = bernoulli(b, x @ v["w"])
        log_discrete += tf.reduce_sum(c * tf.nn.log_softmax(logits_of_c(z)), axis=-1)
        log_q = log_discrete + normal(z, loc, scale)[..., 0]
        return weights, log_discrete, log_joint(x, b, z, c) - log_q

    return Problem(
        "mixed", frozenset(["bernoulli", "categorical"]), v, (x,), objective, terms, small_baseline
    )


def gates(seed=56, scale=1.5) -> Problem:
    """Bernoulli gates of the 3 hidden units of a classifier; all rows share their logits."""
    v = _variables(seed, scale, gates=(1, 3), w=(4, 3), p=(3, 3))
    x, y = _data(3, 4), tf.constant([0, 2, 1])

    def log_likelihood(x, y, open_gates):
        logits = (open_gates * tf.tanh(x @ v["w"])) @ v["p"]
        return tf.reduce_sum(tf.one_hot(y, 3, dtype=x.dtype) * tf.nn.log_softmax(logits), axis=-1)

    def objective(sample, x, y):
        return log_likelihood(x, y, sample.bernoulli("gates", v["gates"]))

    def terms(x, y):
        b = tf.constant(bits(3)[:, tf.newaxis])
        return 1.0, bernoulli(b, v["gates"]), log_likelihood(x, y, b)

    return Problem("gates", frozenset(["bernoulli"]), v, (x, y), objective, terms)
