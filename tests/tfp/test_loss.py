"""`rebar.tfp.loss`: the classes of joint distributions agree, batches, types and modes."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import rebar

tfd = tfp.distributions
Root = tfd.JointDistributionCoroutine.Root
LOGITS, MEANS = tf.Variable([0.3, -0.2]), tf.Variable([1.0, 2.0])
X = [1.0, 2.0]


def floats(x):
    return tf.cast(x, tf.float32)


def mean(z):
    return tf.reduce_sum(floats(z) * MEANS, axis=-1)


def units(m):
    return tfd.Independent(tfd.Bernoulli(MEANS + m[..., tf.newaxis]), 1, name="b")


def coroutine():
    z = yield Root(tfd.OneHotCategorical(LOGITS, name="z"))
    m = yield tfd.Normal(mean(z), 1.0, name="m")
    yield units(m)


def unbatched_coroutine():
    z = yield tfd.OneHotCategorical(LOGITS, name="z")
    m = yield tfd.Normal(mean(z), 1.0, name="m")
    yield tfd.Bernoulli(MEANS + m, name="b")


NAMED = {"m": lambda z: tfd.Normal(mean(z), 1.0), "z": tfd.OneHotCategorical(LOGITS), "b": units}
SEQUENCE = [tfd.OneHotCategorical(LOGITS), lambda z: tfd.Normal(mean(z), 1.0), units]
POSTERIORS = [
    tfd.JointDistributionCoroutine(coroutine),
    tfd.JointDistributionCoroutineAutoBatched(unbatched_coroutine),
    tfd.JointDistributionNamed(NAMED),
    tfd.JointDistributionNamedAutoBatched(NAMED),
    tfd.JointDistributionSequential(SEQUENCE),
    tfd.JointDistributionSequentialAutoBatched(SEQUENCE),
]


def model():
    z = yield tfd.OneHotCategorical([0.0, 0.5], name="z")
    m = yield tfd.Normal(floats(z)[0], 1.0, name="m")
    b = yield tfd.Bernoulli([0.3, 0.5], name="b")
    yield tfd.Normal(m + floats(b), 1.0, name="x")


TARGETS = [
    tfd.JointDistributionCoroutineAutoBatched(model).experimental_pin(x=X),
    tfd.JointDistributionNamed(
        {
            "z": tfd.OneHotCategorical([0.0, 0.5]),
            "b": tfd.Independent(tfd.Bernoulli([0.3, 0.5]), 1),
            "m": lambda z: tfd.Normal(floats(z)[..., 0], 1.0),
            "x": lambda m, b: tfd.Independent(tfd.Normal(m[..., None] + floats(b), 1.0), 1),
        }
    ).experimental_pin(x=X),
    tfd.JointDistributionSequential(
        [
            tfd.OneHotCategorical([0.0, 0.5]),
            lambda z: tfd.Normal(floats(z)[..., 0], 1.0),
            tfd.Independent(tfd.Bernoulli([0.3, 0.5]), 1),
            lambda b, m: tfd.Independent(tfd.Normal(m[..., None] + floats(b), 1.0), 1),
        ]
    ).experimental_pin(None, None, None, X),
]


def result_of(target, posterior, estimator="LOO", **options):
    """Loss and gradients."""
    with tf.GradientTape() as tape:
        estimate = rebar.tfp.loss(
            target, posterior, estimator=estimator, n_samples=64, seed=0, step=1, **options
        )
    return [estimate.loss, *tape.gradient(estimate.loss, [LOGITS, MEANS])]


@pytest.fixture(scope="module")
def expected():
    return result_of(TARGETS[0], POSTERIORS[0])


@pytest.mark.parametrize("posterior", POSTERIORS, ids=lambda q: type(q).__name__)
def test_classes_of_posteriors_agree(posterior, expected):
    for actual, wanted in zip(result_of(TARGETS[2], posterior), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4)


@pytest.mark.parametrize("target", TARGETS[1:], ids=lambda p: type(p.distribution).__name__)
def test_classes_of_targets_agree(target, expected):
    for actual, wanted in zip(result_of(target, POSTERIORS[0]), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4)


def test_functions_as_targets(expected):
    """The method `log_prob` of a joint distribution is matched by names, as the distribution."""
    pinned = TARGETS[1]
    for target, posterior in [
        (pinned.log_prob, POSTERIORS[2]),
        (lambda z, m, b: pinned.log_prob(z=z, m=m, b=b), POSTERIORS[0]),
        (lambda **sites: pinned.log_prob(**sites), POSTERIORS[2]),
    ]:
        np.testing.assert_allclose(result_of(target, posterior)[0], expected[0], rtol=1e-4)


def test_relaxed_samples_reach_the_model():
    """REBAR's relaxed rollouts agree, also through sites that are vectorized."""
    losses = [
        result_of(target, posterior, rebar.estimator("REBAR"))
        for target, posterior in [(TARGETS[2], POSTERIORS[1]), (TARGETS[2], POSTERIORS[4])]
    ]
    for first, second in zip(*losses, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-3)


def test_parameters_of_several_ranks():
    """With as many samples as elements, a vectorized scalar must not broadcast to the elements."""

    def posterior():
        m = yield Root(tfd.Normal(0.0, 1.0, name="m"))
        m = m[..., tf.newaxis]
        yield tfd.Independent(tfd.Normal(m * MEANS, tf.exp(m)), 1, name="z")

    def unbatched():
        m = yield tfd.Normal(0.0, 1.0, name="m")
        yield tfd.Normal(m * MEANS, tf.exp(m), name="z")

    def batched():
        m = yield tfd.Normal(tf.zeros([2]), 1.0, name="m")
        m = m[..., tf.newaxis]
        yield tfd.Normal(m * MEANS, tf.exp(m), name="z")

    target = lambda m, z: -(m**2) - tf.reduce_sum(z, axis=-1)  # noqa: E731
    results = [
        rebar.tfp.loss(target, q, n_samples=2, seed=0, step=0)
        for q in (
            tfd.JointDistributionCoroutine(posterior),
            tfd.JointDistributionCoroutineAutoBatched(unbatched),
        )
    ]
    np.testing.assert_allclose(*[result.value for result in results], rtol=1e-5)
    batch = tfd.JointDistributionCoroutineAutoBatched(batched, batch_ndims=1)
    assert rebar.tfp.loss(target, batch, n_samples=2, seed=0, step=0).value.shape == (2,)


def test_a_batch_of_posteriors():
    """An encoder: posteriors and ELBOs of all examples, with and without inputs of a baseline."""
    x = tf.constant(np.random.default_rng(0).normal(size=(5, 3)), tf.float32)
    weights = tf.Variable(tf.ones([3, 2]))

    def target(b):
        """log p of [samples, examples, units]."""
        return -tf.reduce_sum(tf.square(b - x[:, :2]), axis=-1)

    @tf.function(input_signature=[tf.TensorSpec([None, 3])])
    def of_unknown_size(x):
        posterior = tfd.Independent(tfd.Bernoulli(x @ weights), 1)
        return rebar.tfp.loss(target, posterior, estimator="LOO", n_samples=3, seed=0, step=0).value

    posterior = tfd.Independent(tfd.Bernoulli(x @ weights), 1)
    results = [
        rebar.tfp.loss(target, posterior, *inputs, estimator=e, n_samples=3, seed=0, step=0)
        for e in ("LOO", rebar.estimator("NVIL"), rebar.estimator("NVIL"))
        for inputs in ([], [x])[: 1 + (e != "LOO")]
    ]
    for result in results:
        assert result.samples["IndependentBernoulli"].shape == (15, 2)
        np.testing.assert_allclose(result.value, results[0].value, rtol=1e-6)
    np.testing.assert_allclose(of_unknown_size(x), results[0].value, rtol=1e-5)
    b = tf.reshape(results[0].samples["IndependentBernoulli"], [3, 5, 2])
    expected = tf.reduce_mean(target(b) - posterior.log_prob(b), axis=0)
    np.testing.assert_allclose(results[0].value, expected, rtol=1e-5)


def test_integers():
    """Samples of Categorical keep their type, also as an index."""
    table = tf.constant([1.0, 2.0, 4.0])
    posterior = tfd.Independent(tfd.Categorical(tf.zeros([2, 3])), 1, name="z")
    result = rebar.tfp.loss(
        lambda z: tf.reduce_sum(tf.gather(table, z), -1), posterior, n_samples=8, seed=0, step=0
    )
    z = result.samples["z"]
    assert z.dtype == tf.int32
    assert z.shape == (8, 2)
    log_p = tf.reduce_sum(tf.gather(table, z), axis=1)
    np.testing.assert_allclose(result.value[0], tf.reduce_mean(log_p) + 2 * np.log(3), rtol=1e-6)
