"""Tiny problems for every registered estimator: models, data and weights that are not special."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from rebar import noise, registry
from rebar.core import gradients
from rebar.factory import make_model
from rebar.hparams import HParams

N_INPUT, N_HIDDEN = 6, 2

FAMILIES = {
    "unconditional": (False, "auto"),
    "multilayer": (True, "multilayer"),
    "2017": (True, "2017"),
}
"""Name -> (conditional, hparam `conditional`)."""

WEIGHTS = {
    ("unconditional", 1, False): (123, 1.0),
    ("unconditional", 2, False): (76, 1.0),
    ("unconditional", 2, True): (118, 1.0),
    ("unconditional", 3, False): (77, 1.0),
    ("unconditional", 4, False): (22, 1.0),
    ("multilayer", 1, False): (47, 1.0),
    ("multilayer", 2, False): (14, 1.0),
    ("multilayer", 3, False): (71, 1.0),
    ("2017", 1, False): (31, 1.4),
    ("2017", 2, False): (121, 1.4),
    ("2017", 3, False): (126, 1.4),
}
"""(family, n_layer, nonlinear) -> seed and scale of the weights. Most random weights leave some
tensor with next to no gradient, so that no bias would be visible; with these none is small."""


@pytest.fixture
def float64():
    """Keras' dtype policy is float64 while the test runs."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(policy)


def randomize(variables, seed: int, scale: float) -> None:
    """Normal values of standard deviation `scale`; the same for the same seed."""
    generator = np.random.default_rng(seed)
    for v in variables:
        v.assign(generator.normal(size=v.shape) * scale)


def images(count: int, seed: int = 0) -> np.ndarray:
    """[count, N_INPUT] of zeros and ones, no two alike in a row."""
    x = np.random.default_rng(seed).integers(0, 2, size=(count, N_INPUT))
    x[:, 0] = np.arange(count) % 2
    return x.astype(np.float64)


def samples_of(*names: str, least: int = 1) -> int:
    """The smallest n_samples, `least` or more, that estimators take together.

    Args:
      *names: model names or labels, of registered estimators.
      least: wanted at least.
    """
    labels = registry.labels("binary")
    entries = [registry.entry(labels.get(name, name)) for name in names]
    return next(
        n for n in itertools.count(least) if all(entry.n_samples(n) == n for entry in entries)
    )


def hparams(name: str, n_layer: int, family: str = "unconditional", **changes) -> HParams:
    """Hyperparameters of a tiny case, with as few samples as the estimators in it take."""
    values = {"n_layer": n_layer, "n_hidden": N_HIDDEN, "conditional": FAMILIES[family][1]}
    values["n_samples"] = samples_of(name, *changes.get("track", ()))
    return HParams(model=name, **{**values, **changes})


def noise_keys(seed: int, position: int) -> np.ndarray:
    """Keys [2, 2] of one estimate's noise: of the main chain, and of the branches."""
    return np.stack([noise.key(seed, "analysis", position), noise.key(seed, "branches", position)])


def draw(estimator, model, keys, n_samples: int, batch: int, dtype=tf.float32) -> noise.Noise:
    """Noise for one estimate, with branches where the estimator needs them.

    Args:
      keys: [2, 2] from `noise_keys`.
    """
    main = noise.latents(keys[0], n_samples, batch, model.n_units, dtype)
    return noise.with_branches(main, keys[1]) if estimator.branches else main


def tiny_model(n_layer: int, family: str = "unconditional", nonlinear=False):
    """A model with random weights, in the dtype of Keras' policy."""
    settings = hparams("SBN", n_layer, family, nonlinear=nonlinear)
    mean = np.linspace(0.2, 0.7, N_INPUT)
    model = make_model(settings, mean, FAMILIES[family][0])
    seed, scale = WEIGHTS.get((family, n_layer, nonlinear), (1, 1.0))
    randomize(model.trainable_variables, seed, scale)
    return model


def set_up(estimator, model, seed=2):
    """The estimator with random control variates: scales are not 1, baselines not 0."""
    estimator.setup(model, seed)
    randomize(estimator.trainable_variables, seed, 0.3)
    return estimator


def registered(name: str, model, **changes):
    """The registered estimator, set up for the model with random control variates."""
    settings = hparams(name, len(model.n_units), **changes)
    return set_up(registry.make_estimator(name, settings), model)


def follower(name, model, n_samples, **settings):
    """The registered estimator for n_samples of noise, with random control variates."""
    return registered(name, model, n_samples=n_samples, **settings)


def assert_control_descends_the_mean_square(estimator, model, x, noise) -> None:
    """Control gradients are those of mean g^2, by central differences along random directions."""

    @tf.function(autograph=False)
    def mean_square():
        return gradients.mean_square(estimator.estimate(model, x, noise).gradients)

    control = estimator.estimate(model, x, noise).control_gradients
    step = 1e-5
    for v, g in zip(estimator.trainable_variables, control, strict=True):
        start = v.numpy()
        direction = np.random.default_rng(0).normal(size=v.shape)
        values = []
        for sign in (1, -1):
            v.assign(start + sign * step * direction)
            values.append(float(mean_square()))
        v.assign(start)
        expected = (values[0] - values[1]) / (2 * step)
        assert np.sum(g * direction) == pytest.approx(expected, rel=1e-5, abs=1e-9), v.path
        assert expected != 0, v.path


def flat(tensors) -> np.ndarray:
    """All components of a list of tensors."""
    return np.concatenate([np.reshape(t, -1) for t in tensors])


def tensor(x, dtype=tf.float64) -> tf.Tensor:
    """A constant of a type."""
    return tf.constant(x, dtype)
