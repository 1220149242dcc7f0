"""The belief networks as probability models and as Keras models."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import enumeration, samplers
from rebar.core.initializers import FanInInitializer
from rebar.errors import RebarError
from rebar.models.conditional import ConditionalSBN, SingleLayerConditional
from rebar.models.likelihoods import output_bias
from rebar.models.networks import GeneratorNetwork, LearnedPrior, Transformation
from rebar.models.sbn import SigmoidBeliefNetwork
from rebar.noise import Noise
from rebar.testing.problems import HIERARCHIES
from tests.conformance.cases import FAMILIES, float64, images, randomize, tensor, tiny_model

__all__ = ["float64"]

CLASSES = [SigmoidBeliefNetwork, ConditionalSBN, SingleLayerConditional]
MEAN = np.linspace(0.2, 0.7, 6)
UNITS = (3, 2)
SIZES = [UNITS, (3, (2, 4)), ((2, 4), 3)]


def make(cls, n_units=UNITS, **kwargs):
    """A model whose layers have different widths, with random weights."""
    model = cls(n_units, MEAN, **kwargs)
    randomize(model.trainable_variables, 5, 0.8)
    return model


def draw(model, n_samples, batch, dtype=tf.float32, step=0):
    key = noise_module.key(7, "analysis", step)
    return noise_module.latents(key, n_samples, batch, model.n_units, dtype)


def n_output(model):
    return 6 if type(model) is SigmoidBeliefNetwork else 3


# As Keras models.


@pytest.mark.parametrize("units", SIZES)
@pytest.mark.parametrize("nonlinear", [False, True])
@pytest.mark.parametrize("cls", CLASSES)
def test_config_round_trip(cls, nonlinear, units):
    model = cls(units, MEAN, nonlinear=nonlinear, seed=9, name="mine")
    copy = cls.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    assert (copy.name, copy.n_units, copy.n_input) == ("mine", model.n_units, 6)
    assert copy.latent_shapes == model.latent_shapes
    for a, b in zip(model.variables, copy.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    other = cls(units, MEAN, nonlinear=nonlinear, seed=10)
    kernels = [i for i, v in enumerate(model.variables) if v.path.endswith("kernel")]
    assert all(np.any(model.variables[i] != other.variables[i]) for i in kernels)


# Keras 3 converts its variables in a way that NumPy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("units", "nonlinear"), [(UNITS, False), (SIZES[1], True)])
@pytest.mark.parametrize("cls", CLASSES)
def test_weights_and_models_survive_files(cls, units, nonlinear, tmp_path):
    model = make(cls, units, nonlinear=nonlinear)
    x = images(4).astype(np.float32)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = cls(units, MEAN, nonlinear=nonlinear)
    assert np.any(fresh(x) != model(x))
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(fresh(x), model(x))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), model(x))


@pytest.mark.parametrize(
    "layer",
    [
        Transformation(3, 2, n_hidden=4, seed=5, name="q_0"),
        LearnedPrior(3),
        LearnedPrior((2, 4), name="of_categories"),
        GeneratorNetwork(3, UNITS, [0.5, 0.0, -1.0], seed=2),
        FanInInitializer(3),
    ],
    ids=lambda layer: f"{type(layer).__name__}, {getattr(layer, 'name', '')}",
)
def test_layers_are_serializable(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()


@pytest.mark.parametrize("cls", CLASSES)
def test_summary_counts_the_parameters(cls):
    model, lines = make(cls), []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    total = sum(math.prod(v.shape) for v in model.trainable_variables)
    assert f"Total params: {total}" in "\n".join(lines)
    assert model.count_params() == total


LAYERS = ["q_0", "q_1", "p_1", "p_0"]


@pytest.mark.parametrize(
    ("cls", "layers"),
    [
        (SigmoidBeliefNetwork, LAYERS),
        (ConditionalSBN, ["prior", *LAYERS]),
        (SingleLayerConditional, ["q_0", "q_1", "p_0"]),
    ],
)
def test_variables_are_in_the_order_of_2017(cls, layers):
    def linear(name):
        return [f"{name}/kernel", f"{name}/bias"]

    def nonlinear(name):
        hidden = [linear(f"{name}_nonlinear_{i}") for i in (1, 2)]
        return [*hidden[0], *hidden[1], *linear(name)]

    for parts, is_nonlinear in ((linear, False), (nonlinear, True)):
        model = make(cls, nonlinear=is_nonlinear)
        expected = [v for name in layers for v in parts(name)]
        if cls is SigmoidBeliefNetwork:
            expected = ["prior/logits", *expected]
        paths = [v.path for v in model.trainable_variables]
        assert ["/".join(p.split("/")[-2:]) for p in paths] == expected
        assert len(set(paths)) == len(paths)
        inference = [p for p in paths if p.startswith("q_")]
        assert [v.path for v in model.inference_variables] == inference


def test_initial_weights():
    """Deviation sqrt(1.3 * 2 / fan_in) before the cut at two of them; biases and prior 0."""
    model = SigmoidBeliefNetwork((200,), np.full(784, 0.3), seed=4)
    for kernel, fan_in in (
        (model.recognition.trainable_variables[0], 784),
        (model.generator.trainable_variables[0], 200),
    ):
        values = kernel.numpy()
        deviation = math.sqrt(2.6 / fan_in)
        assert np.max(np.abs(values)) <= 2 * deviation * (1 + 1e-6)
        # A normal cut at two deviations has .8796 of its deviation; 157,000 draws give it to .2%.
        assert np.std(values) == pytest.approx(0.8796 * deviation, rel=0.01)
        assert abs(np.mean(values)) < 0.02 * deviation
    for v in model.variables:
        if not v.path.endswith("kernel"):
            assert not np.any(v)


def test_output_bias_is_the_logit_of_the_mean():
    bias = output_bias(np.array([0.0, 0.0005, 0.25, 1.0]))
    np.testing.assert_allclose(bias, [-6.906755, -6.906755, -math.log(3), 6.906755], rtol=1e-6)
    model = SigmoidBeliefNetwork(UNITS, MEAN)
    for v in model.trainable_variables:
        v.assign(keras.ops.zeros_like(v))
    np.testing.assert_allclose(model(images(2)), np.tile(MEAN, [2, 1]), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], MEAN), "at least one layer"),
        (([2, 0], MEAN), "at least one layer"),
        (([2, (3, 1)], MEAN), "at least one layer, or pairs .* with C >= 2"),
        (([(3, 2, 2)], MEAN), "pairs"),
        (([2], MEAN[np.newaxis]), "input_mean of shape"),
        (([2], MEAN + 0.5), "input_mean of shape"),
        (([2], [0.5, np.nan]), "input_mean of shape"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message):
    with pytest.raises(RebarError, match=message):
        SigmoidBeliefNetwork(*arguments)


@pytest.mark.parametrize("cls", CLASSES[1:])
def test_conditional_models_refuse_what_they_cannot_split(cls):
    with pytest.raises(RebarError, match="n_input=5: "):
        cls((2,), np.full(5, 0.5))
    model = make(cls)
    with pytest.raises(RebarError, match="x=images"):
        model.sample(draw(model, 1, 3))


# As probability models.


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("cls", CLASSES)
def test_rollout_against_tensorflow_probability(cls):
    import tensorflow_probability as tfp

    def log_prob(logits, b):
        return tfp.distributions.Independent(tfp.distributions.Bernoulli(logits), 1).log_prob(b)

    model, x = make(cls), images(4)
    noise = draw(model, 3, 4, tf.float64)
    rollout = model.rollout(tensor(x), samplers.hard(noise), 3)
    low, high = rollout.samples
    for u, b, a in zip(noise.uniforms, rollout.samples, rollout.logits, strict=True):
        np.testing.assert_array_equal(b, u > tf.sigmoid(-a))

    def dense(values, layer):
        kernel, bias = layer.trainable_variables
        return values @ kernel.value + bias.value

    rows = np.tile(x, [3, 1])
    centred = rows - MEAN
    q_0, q_1 = model.recognition.transformations
    seen = centred[:, :3] if cls is SingleLayerConditional else centred
    log_q = [log_prob(dense(seen, q_0), low), log_prob(dense(2 * low - 1, q_1), high)]
    for ours, theirs in zip(rollout.log_q, log_q, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)

    bias = np.log(MEAN / (1 - MEAN))[6 - n_output(model) :]
    target = rows[:, 6 - n_output(model) :]
    *p_1, p_0 = model.generator.transformations
    if cls is SingleLayerConditional:
        log_joint = f = log_prob(dense(2 * high - 1, p_0) + bias, target)
    else:
        if cls is ConditionalSBN:
            prior = dense(centred[:, :3], model.prior)
        else:
            prior = model.prior.logits.value
        log_joint = (
            log_prob(tf.broadcast_to(prior, [12, 2]), high)
            + log_prob(dense(2 * high - 1, p_1[0]), low)
            + log_prob(dense(2 * low - 1, p_0) + bias, target)
        )
        f = log_joint - log_q[0] - log_q[1]
    np.testing.assert_allclose(rollout.log_joint, log_joint, rtol=1e-12)
    np.testing.assert_allclose(rollout.objective, f, rtol=1e-12)

    for ours, hard in zip(
        model.posterior_logits(tensor(x), rollout.samples, 3), rollout.logits, strict=True
    ):
        np.testing.assert_array_equal(ours, hard)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("cls", CLASSES)
def test_shapes(cls, dtype):
    model, x = make(cls), images(4).astype(dtype)
    noise = draw(model, 5, 4)
    pixels = n_output(model)
    for values, shape in (
        (model(x.astype(np.float32)), (4, pixels)),
        (model.reconstruct(x, noise), (20, pixels)),
        (model.sample(noise, x=x), (20, pixels)),
        (model.score(x, noise), (4,)),
    ):
        assert values.shape == shape
        assert values.dtype == tf.float32
        assert np.all(np.isfinite(values))
    assert np.all((model.sample(noise, x=x) > 0) & (model.sample(noise, x=x) < 1))
    if cls is SigmoidBeliefNetwork:
        assert model.sample(draw(model, 1, 7)).shape == (7, 6)


def test_rows_are_sample_major():
    """Row s * B + b is sample s of example b, in rollouts, reconstructions and scores."""
    for cls in CLASSES:
        model, x = make(cls), images(4).astype(np.float32)
        noise = draw(model, 3, 4)
        whole = model.rollout(tensor(x, tf.float32), samplers.hard(noise), 3).objective
        for s, b in itertools.product(range(3), range(4)):
            row = s * 4 + b
            own = Noise(tuple(u[row : row + 1] for u in noise.uniforms))
            alone = model.rollout(tensor(x[b : b + 1], tf.float32), samplers.hard(own)).objective
            np.testing.assert_allclose(whole[row], alone[0], rtol=1e-5)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_rollout_from_encoded_images_is_the_same(cls):
    model, x = make(cls), tensor(images(4), tf.float32)
    sampler = samplers.hard(draw(model, 3, 4))
    whole = model.rollout(x, sampler, 3)
    again = model.rollout(x, sampler, 3, encoded=model.encode(x))
    for a, b in zip(tf.nest.flatten(whole), tf.nest.flatten(again), strict=True):
        np.testing.assert_array_equal(a, b)
    other = model.rollout(x, sampler, 3, encoded=model.encode(1 - x))
    assert np.any(other.objective != whole.objective)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("family", FAMILIES)
def test_score_rises_to_the_log_likelihood(family):
    """A bound: the ELBO for one sample, log p(x) for many, and never above it on average.

    1,000 repeats at a fixed seed, compared within 5 standard errors (false-fail rate about 1e-6).
    """
    model, x = tiny_model(2, family), images(1)
    for v in model.trainable_variables:
        v.assign(v / 2)
    truth = enumeration.log_marginal(model, x).numpy()[0]
    elbo = enumeration.elbo_and_gradient(model, x).value.numpy()[0]
    means, repeats = [], 1000
    for samples in (1, 5, 50, 1000):
        noise = draw(model, samples, repeats, tf.float64)
        scores = model.score(np.tile(x, [repeats, 1]), noise).numpy()
        error = np.std(scores) / math.sqrt(repeats)
        assert np.mean(scores) < truth + 5 * error
        if samples == 1:
            assert abs(np.mean(scores) - elbo) < 5 * error
        means.append(np.mean(scores))
    assert means == sorted(means)
    assert truth - means[0] > 0.05
    assert truth - means[-1] < 0.02


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("family", "n_layer"),
    [*itertools.product(FAMILIES, [1, 2, 3]), *((name, 2) for name in HIERARCHIES)],
)
def test_likelihoods_sum_to_one(family, n_layer):
    """log p(x) over all 64 images; log p(lower | upper) over the 8 lower halves of an image."""
    model = tiny_model(n_layer, family)
    if type(model) is SigmoidBeliefNetwork:
        x = np.array(list(itertools.product((0.0, 1.0), repeat=6)))
        total = np.sum(np.exp(enumeration.log_marginal(model, x)))
        assert total == pytest.approx(1, abs=1e-12)
        return
    lower = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    for upper in lower[::3]:
        x = np.concatenate([np.tile(upper, [8, 1]), lower], axis=1)
        total = np.sum(np.exp(enumeration.log_marginal(model, x)))
        assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("family", [*FAMILIES, *HIERARCHIES])
def test_samples_have_the_model_s_distribution(family):
    """Mean pixel probabilities of 20,000 samples against enumeration; within 6 errors of .0036."""
    model = tiny_model(2, family)
    bits = n_output(model)
    targets = np.array(list(itertools.product((0.0, 1.0), repeat=bits)))
    upper = np.zeros((len(targets), 6 - bits))
    x = np.concatenate([upper, targets], axis=1)
    probabilities = np.exp(enumeration.log_marginal(model, x))
    given = None if bits == 6 else x[:1]
    samples = model.sample(draw(model, 20_000, 1, tf.float64), x=given)
    np.testing.assert_allclose(np.mean(samples, axis=0), probabilities @ targets, atol=0.022)
