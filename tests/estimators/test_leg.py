"""LEG: flips of the last layer by its weights, and flips by rollouts."""

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise as noise_module
from rebar.core import samplers
from rebar.estimators import bit_flip, leg
from rebar.models.conditional import ConditionalSBN, SingleLayerConditional
from rebar.models.sbn import SigmoidBeliefNetwork
from rebar.testing.problems import dtype_policy, images, randomize
from rebar.types import capability

MEAN = np.linspace(0.2, 0.7, 6)
UNITS = (2, leg.UNITS + 3)
"""The last layer has more units than one rollout flips."""


@pytest.fixture(autouse=True)
def float64():
    with dtype_policy("float64"):
        yield


def problem(model, n_samples=2):
    randomize(model.trainable_variables, 3, 0.5)
    x = tf.constant(images(4))
    noise = noise_module.latents(
        noise_module.key(1, "latents"), n_samples, len(x), model.n_units, "float64"
    )
    return x, noise


@pytest.mark.parametrize(
    "model",
    [
        lambda: SigmoidBeliefNetwork(UNITS[1:], MEAN),
        lambda: SigmoidBeliefNetwork(UNITS, MEAN),
        lambda: SigmoidBeliefNetwork(UNITS[1:], MEAN, likelihood="gaussian"),
        lambda: ConditionalSBN(UNITS, MEAN),
    ],
)
def test_flips_by_the_weights_are_those_by_rollouts(model, monkeypatch):
    model = model()
    x, noise = problem(model)
    fast = leg.LEG().estimate(model, x, noise).gradients
    hard = model.rollout(x, samplers.hard(noise), noise.n_samples)
    assert model.flipped(x, hard, slice(3), noise.n_samples).shape == (8, 3)
    monkeypatch.setattr(leg, "capability", lambda *_: None)
    for a, b in zip(fast, leg.LEG().estimate(model, x, noise).gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_the_rows_of_a_rollout_do_not_grow_with_the_units(monkeypatch):
    """Memory: UNITS flips per rollout."""
    model = SigmoidBeliefNetwork((2 * leg.UNITS + 1, 2), MEAN)
    x, noise = problem(model)
    chains, rollout = [], model.rollout

    def counted(x, sampler, n_samples):
        chains.append(n_samples / noise.n_samples)
        return rollout(x, sampler, n_samples)

    monkeypatch.setattr(model, "rollout", counted)
    leg.LEG().estimate(model, x, noise)
    assert chains == [1, leg.UNITS, leg.UNITS, 1]


class Scaled(SigmoidBeliefNetwork):
    """Another f."""

    def objective(self, log_joint, log_q):
        return 2 * super().objective(log_joint, log_q)


@pytest.mark.parametrize(
    "model",
    [
        lambda: SigmoidBeliefNetwork(UNITS, MEAN, nonlinear=True),
        lambda: SigmoidBeliefNetwork([(2, 3), 2], MEAN),
        lambda: SingleLayerConditional(UNITS, MEAN),
        lambda: Scaled(UNITS, MEAN),
    ],
    ids=["nonlinear", "categorical", "2017", "overridden"],
)
def test_other_models_have_no_flips_by_the_weights(model):
    model = model()
    x, noise = problem(model)
    hard = model.rollout(x, samplers.hard(noise), noise.n_samples)
    assert capability(model, "flipped")(x, hard, slice(2), noise.n_samples) is None


def test_the_mean_of_flips_of_one_unit(monkeypatch):
    """BitFlip at each of the units of a layer, one after the other, gives LEG."""
    model = SigmoidBeliefNetwork((3,), MEAN)
    x, noise = problem(model)
    noise = noise._replace(key=noise_module.key(0, "further"))
    expected = leg.LEG().estimate(model, x, noise).gradients
    estimates = []
    for unit in range(3):
        u = tf.fill([8], tf.constant((unit + 0.5) / 3, tf.float64))
        monkeypatch.setattr(bit_flip.noise_module, "uniforms", lambda *_, u=u: u)
        estimates.append(bit_flip.BitFlip().estimate(model, x, noise).gradients)
    for a, *b in zip(expected, *estimates, strict=True):
        np.testing.assert_allclose(a, np.mean(b, axis=0), rtol=0, atol=1e-12)
