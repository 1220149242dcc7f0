"""Problems that can be enumerated: tiny models with random weights, images, noise.

With most random weights some tensor has almost no gradient, which would hide a bias. The seeds
below give every tensor at least a few percent of the norm.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rebar import noise
from rebar.estimators.base import Estimator
from rebar.models.categorical_vae import CategoricalVAE
from rebar.models.conditional import ConditionalSBN, SingleLayerConditional
from rebar.models.sbn import SigmoidBeliefNetwork
from rebar.types import Model

N_INPUT, N_HIDDEN = 6, 2
N_LATENTS, N_CATEGORIES = 2, 3

SMALL, LARGE = 0.1, 1.0
"""Deviations of learned weights from their initial values, see `perturb`."""

FAMILIES: dict[str, type] = {
    "unconditional": SigmoidBeliefNetwork,
    "multilayer": ConditionalSBN,
    "2017": SingleLayerConditional,
}
"""Name -> class of models with binary latents."""

HIERARCHIES: dict[str, tuple] = {
    "mixed": (N_HIDDEN, (N_LATENTS, N_CATEGORIES)),
    "mixed, reversed": ((N_LATENTS, N_CATEGORIES), N_HIDDEN),
    "categorical layers": ((N_LATENTS, N_CATEGORIES), (1, 4)),
}
"""Name -> layers of units and of categories, starting next to the data."""

_WEIGHTS = {
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
    ("categorical", 1, False): (6, 1.0),
    ("mixed", 2, False): (19, 1.0),
    ("mixed, reversed", 2, False): (90, 1.0),
    ("categorical layers", 2, False): (78, 1.0),
}
"""(family, n_layer, nonlinear) -> seed and scale of the weights."""


class Problem(NamedTuple):
    """A tiny model on which estimators are checked.

    Attributes:
      family: one of FAMILIES; "categorical": 2 variables of 3 categories; or one of HIERARCHIES.
      n_layer: stochastic layers, of 2 units for FAMILIES.
      nonlinear: hidden layers between them.
    """

    family: str = "unconditional"
    n_layer: int = 1
    nonlinear: bool = False

    def __str__(self) -> str:
        layers = f"{self.n_layer} layer{'s' if self.n_layer > 1 else ''}"
        return f"{self.family}, {layers}{', nonlinear' if self.nonlinear else ''}"

    @property
    def depth(self) -> int:
        """Number of layers of unbounded units per network, each of which multiplies f."""
        return 3 if self.family == "categorical" else 1

    def model(self) -> Any:
        """Return the model, in the dtype of Keras' policy."""
        mean = np.linspace(0.2, 0.7, N_INPUT)
        if self.family == "categorical":
            model = CategoricalVAE(N_CATEGORIES, N_LATENTS, mean, "learned", hidden=(4, 3))
        else:
            n_units = HIERARCHIES.get(self.family, [N_HIDDEN] * self.n_layer)
            network = FAMILIES.get(self.family, SigmoidBeliefNetwork)
            model = network(n_units, mean, nonlinear=self.nonlinear)
        self.reset(model)
        return model

    def reset(self, model: Model) -> None:
        """Give all weights of a model of this problem their initial values."""
        seed, scale = _WEIGHTS.get(self, (1, 1.0))
        randomize(model.trainable_variables, seed, scale)


BINARY = (
    *(Problem(family, n_layer) for n_layer in (1, 2, 3) for family in FAMILIES),
    Problem("unconditional", 2, nonlinear=True),
)
CATEGORICAL = (Problem("categorical"),)
*MIXED, CATEGORICAL_LAYERS = (
    Problem(family, len(layers)) for family, layers in HIERARCHIES.items()
)


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Set Keras' dtype policy within a block."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def randomize(variables: Sequence, seed: int, scale: float) -> None:
    """Assign normal values of standard deviation `scale`."""
    generator = noise.generator(seed)
    for v in variables:
        v.assign(generator.normal(size=v.shape) * scale)


def perturb(variables: Sequence, seed: int, scale: float) -> None:
    """Add normal values of standard deviation `scale` in the natural scale of each weight.

    It is 1 / sqrt(inputs) for matrices, and 1 for others: biases, scales and temperatures, which
    are weights before a sigmoid or an exponential.
    """
    generator = noise.generator(seed)
    for v in variables:
        natural = v.shape[0] ** -0.5 if len(v.shape) == 2 else 1.0
        v.assign_add(generator.normal(size=v.shape) * scale * natural)


def images(count: int, seed: int = 0) -> np.ndarray:
    """Return images [count, N_INPUT] of zeros and ones; neighbors differ."""
    x = noise.generator(seed).integers(0, 2, size=(count, N_INPUT))
    x[:, 0] = np.arange(count) % 2
    return x.astype(np.float64)


def noise_keys(seed: int, position: int) -> np.ndarray:
    """Return keys [2, 2] of one estimate's noise: of the main chain, and of the branches."""
    return np.stack([noise.key(seed, "analysis", position), noise.key(seed, "branches", position)])


def draw(
    estimator: Estimator, model: Model, keys: Any, n_samples: int, batch: int, dtype=tf.float32
) -> noise.Noise:
    """Draw the noise of one estimate from keys [2, 2], with branches if the estimator has them."""
    main = noise.latents(keys[0], n_samples, batch, model.n_units, dtype)
    return noise.with_branches(main, keys[1]) if estimator.branches else main


def flat(tensors: Sequence) -> np.ndarray:
    """Concatenate all components of tensors."""
    return np.concatenate([np.reshape(t, -1) for t in tensors])
