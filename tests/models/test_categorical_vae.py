"""The categorical VAE as a probability model and as a Keras model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from rebar import noise as noise_module
from rebar.core import samplers
from rebar.core.enumeration import all_states
from rebar.errors import RebarError
from rebar.models.categorical_vae import CategoricalVAE
from tests.conformance.cases import float64, randomize, tensor

__all__ = ["float64"]

MEAN = np.linspace(0.2, 0.7, 6)
C, L = 3, 2


def make(prior="learned", scale=0.08, **kwargs):
    """A model with random weights."""
    model = CategoricalVAE(C, L, MEAN, prior=prior, **kwargs)
    randomize(model.trainable_variables, 5, scale)
    return model


def grey(count=4):
    return np.random.default_rng(0).random((count, 6))


def draw(model, n_samples, batch, dtype=tf.float64):
    key = noise_module.key(7, "analysis", 0)
    return noise_module.latents(key, n_samples, batch, model.n_units, dtype)


def enumerated(model, x):
    """Every code of every image: the rollout, and q [codes, B]."""
    (codes,) = all_states([(L, C)], tf.float64)
    rows = tf.repeat(codes, len(x), axis=0)
    rollout = model.rollout(tensor(x), samplers.fixed((rows,)), codes.shape[0])
    return rollout, np.exp(rollout.log_q[0]).reshape(-1, len(x))


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_the_probabilities_are_those_of_the_docstring(float64, prior):
    """Against NumPy, from the networks' logits on."""
    model, x = make(prior), grey()
    rollout, q = enumerated(model, x)
    logits = np.reshape(model.encode(tensor(x)), [-1, L, C])
    pi = special.softmax(logits, axis=-1)
    p = special.softmax(np.array(model.prior_logits()), axis=-1)
    np.testing.assert_allclose(q.sum(axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-12)
    z = rollout.samples[0].numpy().reshape(-1, len(x), L, C)
    pixels = special.expit(np.array(model.decode(rollout.samples[0]))).reshape(-1, len(x), 6)
    likelihood = np.sum(x * np.log(pixels) + (1 - x) * np.log1p(-pixels), axis=-1)
    divergence = np.sum(pi * np.log(pi / p), axis=(-2, -1))
    f = np.reshape(rollout.objective, [-1, len(x)])
    np.testing.assert_allclose(f, likelihood - divergence, rtol=1e-10)
    weight = likelihood + np.sum(z * np.log(p), axis=(-2, -1)) - np.log(q)
    np.testing.assert_allclose(np.reshape(rollout.log_weight, [-1, len(x)]), weight, rtol=1e-10)
    # The closed form changes f, not its mean.
    np.testing.assert_allclose(np.sum(q * f, axis=0), np.sum(q * weight, axis=0), rtol=1e-10)
    assert np.max(np.abs(f - weight)) > 0.01
    if prior == "uniform":
        assert model.prior_variables == []
        np.testing.assert_allclose(p, 1 / C)


def test_samples_have_their_probabilities(float64):
    """10,000 draws an image; the largest of 9 * 4 deviations, false-fail rate 1e-6: 5.6 errors."""
    model, x, n = make(), grey(), 10_000
    draws = draw(model, n, len(x))
    z = model.rollout(tensor(x), samplers.hard(draws), n).samples[0].numpy()
    np.testing.assert_array_equal(z.sum(axis=-1), 1)
    index = z.argmax(axis=-1).reshape(n, len(x), L) @ [C, 1]
    share = np.stack([np.bincount(column, minlength=C**L) / n for column in index.T], axis=1)
    _, q = enumerated(model, x)
    assert np.max(np.abs(share - q) / np.sqrt(q * (1 - q) / n)) < 5.6
    # The check would see two categories that are exchanged.
    assert np.max(np.abs(share[::-1] - q) / np.sqrt(q * (1 - q) / n)) > 10


def test_rows_are_sample_major_and_what_is_encoded_is_used(float64):
    model, x = make(), grey()
    draws = draw(model, 3, len(x))
    all_rows = model.rollout(tensor(x), samplers.hard(draws), 3)
    encoded = model.encode(tensor(x))
    again = model.rollout(tensor(x), samplers.hard(draws), 3, encoded)
    np.testing.assert_array_equal(all_rows.objective, again.objective)
    other = model.rollout(tensor(x), samplers.hard(draws), 3, 2 * encoded)
    assert np.any(other.objective != all_rows.objective)
    for s in range(3):
        rows = slice(s * len(x), (s + 1) * len(x))
        one = noise_module.Noise((draws.uniforms[0][rows],))
        part = model.rollout(tensor(x), samplers.hard(one))
        np.testing.assert_allclose(part.objective, all_rows.objective[rows], rtol=1e-12)
        np.testing.assert_array_equal(part.samples[0], all_rows.samples[0][rows])
    np.testing.assert_allclose(
        model.posterior_logits(tensor(x), (), 3)[0], all_rows.logits[0], rtol=1e-12
    )


def test_the_bound_rises_with_the_samples_to_the_likelihood(float64):
    model, x = make(scale=0.1), grey()
    rollout, q = enumerated(model, x)
    weight = np.reshape(rollout.log_weight, [-1, len(x)])
    elbo, exact = np.sum(q * weight, axis=0), special.logsumexp(weight, b=q, axis=0)
    score = np.array(model.score(x, draw(model, 20_000, len(x))))
    np.testing.assert_allclose(score, exact, atol=0.01)
    assert np.all(exact - elbo > 0.05)


def test_what_people_ask_for():
    model, x = make(), grey().astype(np.float32)
    draws = draw(model, 2, len(x), tf.float32)
    for pixels, rows in (
        (model(x), 4),
        (model.reconstruct(x, draws), 8),
        (model.sample(draws), 8),
    ):
        assert pixels.shape == (rows, 6)
        assert np.all((np.array(pixels) > 0) & (np.array(pixels) < 1))
    assert np.any(model.sample(draws)[0] != model.sample(draws)[1])


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_config_round_trip(prior):
    model = CategoricalVAE(C, L, MEAN, prior=prior, seed=9, name="mine")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert copy.get_config() == model.get_config()
    assert (copy.name, copy.n_units, copy.latent_shape) == ("mine", (L * C,), (L, C))
    for a, b in zip(model.variables, copy.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    other = CategoricalVAE(C, L, MEAN, prior=prior, seed=10)
    pairs = zip(model.variables, other.variables, strict=True)
    assert all(np.any(a != b) for a, b in pairs if "prior" not in a.path)


def test_initial_weights_and_biases_are_uniform_by_fan_in():
    model = CategoricalVAE(8, 4, np.full(784, 0.5))
    for layers in (model.encoder, model.decoder):
        for layer in layers:
            kernel = layer.kernel.numpy()
            limit = kernel.shape[0] ** -0.5
            for values in (kernel, layer.bias.numpy()):
                assert np.max(np.abs(values)) <= limit
                assert np.max(np.abs(values)) > 0.9 * limit
                error = 6 * (4 / 45 / values.size) ** 0.5 * limit**2
                assert np.var(values) == pytest.approx(limit**2 / 3, abs=error)
    widths = [layer.kernel.shape for layer in (*model.encoder, *model.decoder)]
    assert widths == [(784, 512), (512, 256), (256, 32), (32, 256), (256, 512), (512, 784)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 4, MEAN), "n_categories=1, n_latents=4: "),
        ((8, 0, MEAN), "n_latents=0"),
        ((8, 4, MEAN, "flat"), "prior='flat': choose from uniform, learned"),
        ((8, 4, MEAN[None]), r"shape \(1, 6\)"),
        ((8, 4, MEAN + 1), r"input_mean .*\[0, 1\]"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(RebarError, match=message):
        CategoricalVAE(*arguments)
