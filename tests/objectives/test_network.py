"""Objectives as models that are trained by name."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import rebar
from rebar import noise, registry
from rebar.analysis.references import exact
from rebar.core import enumeration, samplers
from rebar.errors import RebarError
from rebar.estimators.base import checked_estimate
from rebar.factory import make_learner, make_model
from rebar.hparams import HParams
from rebar.models.sbn import SigmoidBeliefNetwork
from rebar.noise import with_branches
from rebar.objectives.network import ObjectiveNetwork, check_estimator, network
from rebar.training.evaluate import Evaluator

RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 2, [3, 5]).astype(np.float64)
MEAN = np.full(5, 0.4)

pytestmark = pytest.mark.usefixtures("own_registry")


@contextlib.contextmanager
def float64():
    """Let layers without a type compute in float64."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="module")
def sbn():
    """A belief network of two layers with weights that are not small."""
    model = SigmoidBeliefNetwork((2, 3), MEAN, dtype="float64")
    for v in model.trainable_variables:
        v.assign(RANDOM.normal(size=v.shape))
    return model


@pytest.fixture(scope="module")
def twin(sbn):
    """The same model as an objective with its layers."""

    def objective(sample, x):
        first, second = sbn.recognition.transformations
        b = sample.bernoulli("b", first(sbn.condition(x)))
        c = sample.bernoulli("c", second(2 * b - 1))
        return sbn.log_joint(x, (b, c)) - sample.log_q

    with float64():
        return ObjectiveNetwork(objective, [sbn], MEAN)


@pytest.mark.parametrize("name", registry.names("binary"))
def test_estimates_are_those_of_a_plain_model(name, sbn, twin):
    hparams = HParams(model=name, n_samples=4, track=("LOO", "REBAR"), follow="REBAR")
    results = []
    for model in (sbn, twin):
        with float64():
            estimator = registry.make_estimator(name, hparams)
            estimator.setup(model, 1)
        draws = noise.latents(noise.key(0, "latents"), 4, len(X), model.n_units, "float64")
        if estimator.branches:
            draws = with_branches(draws, noise.key(0, "branches"))
        results.append(estimator.estimate(model, tf.constant(X), draws))
    plain, custom = results
    np.testing.assert_allclose(custom.objective, plain.objective, rtol=1e-10)
    for a, b in zip(custom.gradients, plain.gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    for a, b in zip(custom.control_gradients, plain.control_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_exact_gradients_and_parts_of_q(sbn, twin):
    for a, b in zip(
        enumeration.elbo_and_gradient(twin, X).gradients,
        enumeration.elbo_and_gradient(sbn, X).gradients,
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert {*map(id, twin.inference_variables)} == {*map(id, sbn.inference_variables)}
    assert twin.latent_shapes == ((2,), (3,))
    samples = sbn.rollout(X, samplers.mean()).samples
    pairs = zip(twin.posterior_logits(X, samples), sbn.posterior_logits(X, samples), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-12)


class Mixed(keras.layers.Layer):
    """A continuous site before a site of units."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.second = keras.layers.Dense(2), keras.layers.Dense(3)
        self.decoder = keras.layers.Dense(5)
        self.drawn = []

    def objective(self, sample, x):
        z = sample(
            "z", tfp.distributions.Independent(tfp.distributions.Normal(self.encoder(x), 1), 1)
        )
        b = sample.bernoulli("b", self.second(z))
        self.drawn.append(z)
        prior = tfp.distributions.MultivariateNormalDiag(tf.zeros(2)).log_prob(z)
        error = tf.square(x - self.decoder(tf.concat([z, b], axis=1)))
        return prior - tf.reduce_sum(error, axis=1) - sample.log_q


@pytest.fixture(scope="module")
def mixed():
    return network("Mixed", Mixed(), MEAN)


@pytest.mark.parametrize("name", ["LOO", "DisARM", "Gumbel", "ST"])
def test_continuous_sites_as_in_rebar_estimate(name, mixed):
    x = X.astype(np.float32)
    estimator, variables = rebar.estimator(name), mixed.trainable_variables
    estimate = checked_estimate(estimator, mixed, tf.constant(x), noise.of_sites(0, 7, 2))
    with tf.GradientTape() as tape:
        options = {"estimator": name, "n_samples": 2, "seed": 0, "step": 7}
        loss = rebar.estimate(mixed.source.objective, x, **options).loss
    for a, b in zip(estimate.gradients, tape.gradient(loss, variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert {*map(id, mixed.inference_variables)} == {id(v) for v in variables[:4]}


def test_rollouts_of_an_estimate_share_their_continuous_noise(mixed):
    estimator, drawn = rebar.estimator("DynamicREBAR"), mixed.source.drawn
    estimator.setup(mixed)
    steps = []
    for step in (0, 1):
        drawn.clear()
        draws = noise.latents(noise.key(0, "latents", step), 1, 3, mixed.n_units)
        checked_estimate(estimator, mixed, tf.constant(X, tf.float32), draws)
        assert len(drawn) == 3
        for z in drawn:
            np.testing.assert_array_equal(z, drawn[0])
        steps.append(drawn[0])
    assert np.all(np.asarray(steps[0]) != np.asarray(steps[1]))


def test_evaluation_and_references_with_continuous_sites(mixed):
    evaluate = Evaluator(mixed)
    values = evaluate(X, 20)
    assert values == evaluate(X, 20) != evaluate(X, 20, stream=1)
    assert values["bound"] > values["elbo"]
    with pytest.raises(RebarError, match=r"continuous latents, too; use --reference=loo"):
        exact(mixed, tf.constant(X, tf.float32))


class Layer(keras.layers.Layer):
    """An objective of one site, by default of units, with unbuilt layers."""

    def __init__(self, *, kind="bernoulli", argmax=False, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.decoder = keras.layers.Dense(4), keras.layers.Dense(5)
        self.kind, self.argmax = kind, argmax

    def objective(self, sample, x):
        logits = self.encoder(x)
        if self.kind == "categorical":
            z = tf.reshape(sample.categorical("z", tf.reshape(logits, [-1, 2, 2])), [-1, 4])
        elif self.kind == "none":
            z = logits
        else:
            z = sample.bernoulli("z", logits)
        z = tf.cast(z > 0.5, x.dtype) if self.argmax else z
        error = tf.reduce_sum(tf.square(x - self.decoder(z)), axis=1)
        return -error - (sample.log_q if self.kind != "none" else 0)


def built(factory, task="digits", **hparams):
    registry.register_model("Mine", factory)
    h = HParams(
        **{"model": "SBNReinforceLOO", "n_samples": 2, **hparams}, network="Mine", task=task
    )
    return make_learner(h, registry.make_estimator(h.model, h), MEAN, False, 3).model


def test_a_layer_with_an_objective():
    model = built(lambda: Layer(name="mine"))
    assert isinstance(model.source, Layer)
    assert (model.objective_name, model.n_units) == ("objective of Layer", (4,))
    assert len(model.trainable_variables) == 4
    assert len(model.inference_variables) == 2
    assert not hasattr(model, "sample")


def test_initial_weights_depend_on_the_seed_alone():
    registry.register_model("Mine", Layer)
    h = HParams(network="Mine")
    one, same, other = (make_model(h, MEAN, False, seed) for seed in (0, 0, 1))
    for a, b, c in zip(*(m.trainable_variables for m in (one, same, other)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.shape.rank == 1 or np.any(np.asarray(a) != np.asarray(c))


def test_arguments_of_a_factory():
    given = {}

    def factory(hparams, mean, image_shape, seed, extra=5):
        given.update(locals())
        return Layer()

    registry.register_model("Mine", factory)
    make_model(HParams(network="Mine", n_hidden=7), MEAN, False, 0, (5, 1))
    assert (given["hparams"].n_hidden, given["image_shape"], given["extra"]) == (7, (5, 1), 5)
    np.testing.assert_array_equal(given["mean"], MEAN)
    assert isinstance(given["seed"], int)


def test_an_objective_with_its_variables():
    scale, layer = tf.Variable(1.0), keras.layers.Dense(2)

    def objective(sample, x):
        return tf.reduce_sum(scale * sample.bernoulli("z", layer(x)), axis=1)

    model = built(lambda: (objective, [scale, layer]))
    assert model.source is objective
    assert len(model.trainable_variables) == 3
    assert len(model.inference_variables) == 2


def test_a_model_of_the_protocol_is_used_itself():
    model = built(lambda mean: SigmoidBeliefNetwork((2,), mean))
    assert type(model) is SigmoidBeliefNetwork


def undeclared():
    layer = Layer()
    return layer.objective, [layer.encoder]


class Incomplete(SigmoidBeliefNetwork):
    """A model whose rollout has no argument `encoded`."""

    def rollout(self, x, sampler, n_samples=1):
        return super().rollout(x, sampler, n_samples)


INVALID = {
    r"its factory returned int; return a model with rollout\(\), an object with": lambda: 5,
    r" needs size; its arguments can be hparams, mean": lambda size: Layer(),
    r"uses dense\S*/kernel, dense\S*/bias: not among the variables of the model; add": undeclared,
    r"the objective has no sample site": lambda: Layer(kind="none"),
    r"it has no trainable variables": lambda: (
        lambda s, x: x[:, 0] + s.bernoulli("b", x)[:, 0],
        [],
    ),
    r"the second item must be a list": lambda: (Layer().objective, Layer()),
    r"'kernel': must be a variable or have": lambda: (Layer().objective, ["kernel"]),
    r"returned shape \(1, 5\): must be one value per row": lambda: (
        lambda sample, x: sample.bernoulli("b", x),
        [tf.Variable(1.0)],
    ),
    r"rollout of Incomplete has no argument encoded=None": lambda mean: Incomplete((2,), mean),
    r"SimpleNamespace has no encode, posterior_logits, n_units": lambda: __import__(
        "types"
    ).SimpleNamespace(rollout=1),
}


@pytest.mark.parametrize("message", INVALID)
def test_invalid_results_of_a_factory(message):
    with pytest.raises(RebarError, match=f"network=Mine.*{message}"):
        built(INVALID[message])


@pytest.mark.parametrize(
    ("kind", "model", "message"),
    [
        ("categorical", "SBNDisARM", "site 'z': DisARM does not support categorical sites"),
        ("argmax", "SBNRebar", "site 'z': f has no derivative .* which REBAR needs"),
    ],
)
def test_estimators_that_an_objective_does_not_support(kind, model, message):
    def factory():
        return Layer(kind=kind, argmax=kind == "argmax")

    with pytest.raises(RebarError, match=f"network=Mine: {message}"):
        built(factory, model=model, n_samples=1)


def test_estimators_that_a_model_does_not_support():
    model = SigmoidBeliefNetwork(((2, 3),), MEAN)
    hparams = HParams(model="SBNARM", n_samples=1)
    estimator = registry.make_estimator("SBNARM", hparams)
    with pytest.raises(RebarError, match="network=Mine: ARM does not support categorical layers"):
        check_estimator("Mine", network("Mine", model, MEAN), estimator)
