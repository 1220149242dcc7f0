"""Bad input of `rebar.tfp.loss`, each with one clear error."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import rebar

tfd = tfp.distributions
Root = tfd.JointDistributionCoroutine.Root
LOGITS = tf.Variable([0.3, -0.2])
B = tfd.Independent(tfd.Bernoulli(LOGITS), 1)


def units(logits):
    return tfd.Independent(tfd.Bernoulli(logits), 1, name="b")


def joint(**sites):
    return tfd.JointDistributionNamed(sites)


def x_given(b):
    return tfd.Independent(tfd.Normal(tf.cast(b, tf.float32), 1.0), 1)


MODEL = joint(b=tfd.Independent(tfd.Bernoulli([0.3, 0.5]), 1), x=x_given)
PINNED = MODEL.experimental_pin(x=[1.0, 2.0])


def coroutine(function, autobatched=False):
    kind = tfd.JointDistributionCoroutine
    return (tfd.JointDistributionCoroutineAutoBatched if autobatched else kind)(function)


def two_batches():
    yield Root(tfd.Bernoulli(tf.zeros([5, 2]), name="b"))
    yield Root(tfd.Normal(0.0, 1.0, name="z"))


def sum_over_samples():
    b = yield Root(units(LOGITS))
    yield tfd.Normal(tf.reduce_sum(tf.cast(b, tf.float32)) * tf.ones([3]), 1.0, name="z")


def nested():
    yield Root(joint(b=B))


def outside():
    yield Root(units(LOGITS + tf.random.normal([2])))


def outside_in_a_branch():
    yield Root(units(LOGITS))
    loc = tf.cond(LOGITS[0] > 0, lambda: tf.random.normal([2]), lambda: LOGITS.value())
    yield Root(tfd.Independent(tfd.Normal(loc, 1.0), 1, name="z"))


def outside_autobatched():
    yield tfd.Bernoulli(LOGITS + tfd.Normal(0.0, 1.0).sample(), name="b")


def any_target(*values, **named):
    return tf.zeros(len([*values, *named.values()][0]))


def gathered():
    """A mixture of 4 observations with the integers of their components."""
    assignments = tfd.Sample(tfd.Categorical([0.0, 0.0]), 4)
    model = joint(z=assignments, x=lambda z: tfd.Normal(tf.gather([-1.0, 1.0], z), 1.0))
    return model.experimental_pin(x=[-1.0, 1.0, 1.0, 0.5])


ASSIGNMENTS = joint(z=tfd.Independent(tfd.Categorical(tf.zeros([4, 2])), 1))


@pytest.mark.parametrize(
    ("target", "posterior", "text"),
    [
        (MODEL, joint(b=B), "target: has the sites b, x, but the surrogate posterior has b; pin"),
        (MODEL, B, "target: has the sites b, x, but the surrogate posterior has IndependentBern"),
        (PINNED, joint(c=B), "target: has the sites b, but the surrogate posterior has c"),
        (PINNED, joint(b=B, c=B), "target: has the sites b, but the surrogate posterior has c, b"),
        (PINNED, joint(b=tfd.Bernoulli(LOGITS)), "site 'b': has event shape (2,) in the target, "),
        (PINNED, tfd.Categorical(LOGITS), "site 'b': has event shape (2,) in the target, but ()"),
        (any_target, tfd.Bernoulli(LOGITS), "target: returned log p of shape (4,): must be (4, 2)"),
        (lambda b: tf.reduce_sum(b), B, "target: returned log p of shape (): must be (4,)"),
        (any_target, coroutine(two_batches), "site 'z' of surrogate_posterior: has batch shape ()"),
        (any_target, coroutine(sum_over_samples), "site 'z' of surrogate_posterior: has batch sha"),
        (any_target, coroutine(nested), "has several parts; make each of them a site"),
        (
            lambda b: tf.zeros([4], tf.float64),
            B,
            "target: returned log p of type float64, but log q",
        ),
        (
            any_target,
            joint(b=B, z=tfd.Normal(np.float64(0), 1)),
            "has terms of types float32 and f",
        ),
        (any_target, joint(k=tfd.Poisson(2.0)), "site 'k': Poisson is not reparameterized"),
        (any_target, tfd.Poisson(2.0, name="k"), "site 'k': Poisson is not reparameterized"),
        (any_target, coroutine(outside), "surrogate_posterior: draws random numbers outside its"),
        (any_target, coroutine(outside_in_a_branch), "draws random numbers outside its sites"),
        (
            any_target,
            coroutine(outside_autobatched, True),
            "draws random numbers outside its sites",
        ),
        (any_target, PINNED, "surrogate_posterior: is pinned; pass"),
        (any_target, any_target, "must be a distribution of TensorFlow Probability"),
        (units(tf.zeros([4, 2])), B, "of target: has batch shape (4,), but the surrogate poster"),
        (gathered(), ASSIGNMENTS, "'x' of target: has batch shape (4,)"),
        (lambda c: c, joint(b=B), "target: missing a required argument: 'c'; define it with the "),
        (1.0, B, "target=1.0: must be a joint distribution or a function that returns log p"),
    ],
)
def test_bad_distributions(target, posterior, text):
    with pytest.raises(rebar.RebarError, match=re.escape(text)):
        rebar.tfp.loss(target, posterior, estimator="LOO", n_samples=4, seed=0, step=0)


def test_a_batch_without_rows():
    posterior = tfd.Bernoulli(LOGITS)
    objective = rebar.tfp.elbo(tfd.Bernoulli([0.0, 1.0]), posterior)
    text = re.escape("surrogate_posterior of batch shape (2,): needs an argument with one row per")
    with pytest.raises(rebar.RebarError, match=text):
        rebar.estimate(objective, seed=0, step=0)
    with pytest.raises(rebar.RebarError, match=text):
        rebar.tfp.loss(tfd.Bernoulli([0.0, 1.0]), posterior, tf.zeros([3, 1]), seed=0, step=0)
