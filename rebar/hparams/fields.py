"""Hyperparameters: names, defaults, help texts and valid values; see `HParams` for their use."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from rebar import registry
from rebar.data.sources import TASKS
from rebar.hparams import layers


class Limit(NamedTuple):
    """A test of a value, and its description after "must be"."""

    test: Callable[[Any], bool]
    text: str


def between(low: int, high: int) -> Limit:
    """Return the limit low <= value <= high."""
    return Limit(lambda value: low <= value <= high, f"from {low} to {high}")


def field(
    default: Any,
    text: str,
    limit: Limit | None = None,
    choices: Collection[str] | Callable[[], Collection[str]] = (),
    latents: str | None = None,
) -> Any:
    """Return a field.

    Args:
      default: default value.
      text: help text, one sentence.
      limit: range of valid values.
      choices: valid values, or a function that returns them; (): all in the range.
      latents: "binary" or "categorical" if it applies to one kind of models only, see
        `Fields.applies`.
    """
    choose = choices if callable(choices) else lambda: choices
    metadata = {"help": text, "limit": limit, "choices": choose, "latents": latents}
    return dataclasses.field(default=default, metadata=metadata)


_binary = functools.partial(field, latents="binary")
_categorical = functools.partial(field, latents="categorical")
_FINITE = Limit(math.isfinite, "finite")
_POSITIVE = Limit(lambda v: 0 < v < math.inf, "above 0 and finite")
_RATE = Limit(lambda v: 0 <= v < math.inf, "above 0 and finite, or 0 to follow learning_rate")
_FRACTION = Limit(lambda v: 0 <= v < 1, "at least 0 and below 1")
AT_LEAST_ONE = Limit(lambda v: v >= 1, "at least 1")
_AT_LEAST_TWO = Limit(lambda v: v >= 2, "at least 2")
_LAYERS = Limit(
    lambda v: all(map(layers.LAYER.fullmatch, v)),
    "a list of layers: H for H units, or CxV for V variables of C categories, C at least 2",
)
_PIXELS = Limit(lambda v: v >= 0, "at least 1, or 0 to follow the data set")
SEED = between(0, 2**32 - 1)


OF_ESTIMATORS = (
    *("temperature", "n_samples", "muprop_relaxation", "quadratic", "coupling"),
    *("continuation", "symmetrized", "multi_sample", "legacy2017", "mc_samples", "gst_gap"),
    *("cv_scale", "cv_form", "rk2_beta", "rk2_form", "vimco_mean"),
)
"""Hyperparameters of estimators, which may differ between the estimators at one model."""

OF_PRIOR = ("learning_rate_prior", "prior_optimizer")
"""Hyperparameters of the prior's optimizer, without effect on a uniform prior."""

OF_LAYERS = ("n_hidden", "n_layer", "n_categories", "n_latents")
"""Hyperparameters of the stochastic layers, which `latents` replaces."""


@dataclasses.dataclass(frozen=True)
class Fields:
    """Fields of `HParams`. The first fifteen are those of the 2017 code, with its defaults (except
    `n_input`, which was 784)."""

    model: str = field("SBNGumbel", "Estimator of the gradient.", choices=registry.names)
    n_hidden: int = _binary(200, "Units per stochastic layer.", AT_LEAST_ONE)
    n_input: int = field(0, "Pixels per image; 0 follows the data set.", _PIXELS)
    n_layer: int = _binary(1, "Stochastic layers.", AT_LEAST_ONE)
    nonlinear: bool = _binary(
        False, "Put two hidden layers, as wide as the stochastic layer, before each linear map."
    )
    learning_rate: float = field(
        0.001, "Learning rate of the model; control variates learn ten times as fast.", _POSITIVE
    )
    temperature: float = field(
        0.5, "Temperature of relaxed samples, or its initial value where it is learned.", _POSITIVE
    )
    n_samples: int = field(1, "Samples per example.", AT_LEAST_ONE)
    batch_size: int = field(24, "Examples per minibatch.", AT_LEAST_ONE)
    trial: int = field(
        1, "Number of a repeat; with --seed it determines all randomness of the run.", SEED
    )
    muprop_relaxation: bool = field(
        True,
        "Relax as in the REBAR paper's MuProp limit; false: the plain Concrete relaxation.",
    )
    dynamic_b: bool = field(False, "Binarize images anew at each use; false: once and for all.")
    quadratic: bool = _binary(
        True,
        "REBAR: one relaxed pass per layer (work grows with n_layer squared); false: one in all.",
    )
    beta2: float = field(0.99999, "Adam's decay rate of the second moment.", _FRACTION)
    optimizer: str = field(
        "adam",
        "Optimizer of the model: Adam, or RAdam (Liu et al. 2020).",
        choices=("adam", "radam"),
    )
    task: str = field("sbn", "Data set and objective, or the path of an NPZ file.", choices=TASKS)
    network: str = field(
        registry.AUTO,
        "Model: auto is a sigmoid belief network or a categorical VAE, as the estimator requires; "
        "or a registered name.",
        choices=registry.models,
    )
    conditional: str = _binary(
        "auto",
        "Network of the conditional tasks: multilayer, or 2017's, whose generator has one layer; "
        "auto: 2017 for one layer or with legacy2017, else multilayer.",
        choices=("auto", "multilayer", "2017"),
    )
    activation: str = _binary(
        "tanh",
        "Activation of the hidden layers added by nonlinear=true; leaky_relu has slope .3 below 0.",
        choices=("tanh", "leaky_relu"),
    )
    initializer: str = _binary(
        "2017",
        "Initial weights of the networks: 2017's truncated normal of variance about 2 / fan_in, or "
        "Glorot's uniform of variance 2 / (fan_in + fan_out), as in the DisARM authors' code.",
        choices=("2017", "glorot"),
    )
    learning_rate_generator: float = field(
        0.0, "Learning rate of p without its prior; 0: learning_rate.", _RATE
    )
    learning_rate_prior: float = field(
        0.0, "Learning rate of the prior p(b_L); 0: learning_rate.", _RATE
    )
    prior_optimizer: str = field("adam", "Optimizer of the prior p(b_L).", choices=("adam", "sgd"))
    learning_rate_control: float = field(
        0.0,
        "Learning rate of control variates and temperatures; 0: ten times learning_rate.",
        _RATE,
    )
    coupling: str = _binary(
        "auto",
        "Layers that REBAR couples in the term of a layer: that one (switch, unbiased), or also "
        "those above it (all, as in 2017: biased above one layer); auto: all with legacy2017, "
        "else switch.",
        choices=("auto", "switch", "all"),
    )
    continuation: str = _binary(
        "shared",
        "ARM, DisARM, LocalDisARM, LEG: noise above the layer where a chain separates from the "
        "main one: shared by both, or independent.",
        choices=("shared", "independent"),
    )
    symmetrized: bool = _binary(
        True, "LocalDisARM: average over both orders of an antithetic pair."
    )
    vimco_mean: str = _binary(
        "geometric",
        "VIMCO: mean of the other samples' weights that replaces a sample's.",
        choices=("geometric", "arithmetic"),
    )
    multi_sample: bool = field(
        False, "Follow the multi-sample bound of n_samples instead of the ELBO."
    )
    legacy2017: bool = _binary(
        False, "Repeat the known errors of the 2017 code, unless set one by one."
    )
    n_categories: int = _categorical(
        8, "Categories per latent variable (models Cat...).", _AT_LEAST_TWO
    )
    n_latents: int = _categorical(4, "Categorical latent variables.", AT_LEAST_ONE)
    latents: tuple[str, ...] = field(
        (),
        "Stochastic layers of a sigmoid belief network, starting next to the data, instead of the "
        "sizes above: [200,8x4] is 200 units, and above them 4 variables of 8 categories.",
        _LAYERS,
    )
    prior: str = field(
        "auto",
        "Prior of the last stochastic layer; auto: learned in sigmoid belief networks, uniform in "
        "categorical VAEs.",
        choices=("auto", "uniform", "learned"),
    )
    likelihood: str = field(
        "bernoulli",
        "Distribution of a pixel given the latent variables: Bernoulli, or for grayscale images "
        "Gaussian with one trained variance per pixel.",
        choices=("bernoulli", "gaussian"),
    )
    mc_samples: int = _categorical(
        100,
        "CatGumbelRao, CatReinMaxRao and CatReinMaxCV: draws of the noise given the sample.",
        AT_LEAST_ONE,
    )
    gst_gap: float = _categorical(
        1.0,
        "CatGST: gap between the sample's logit and the others.",
        _POSITIVE,
    )
    cv_scale: float = _categorical(0.7, "CatReinMaxCV: scale of its control variate.", _FINITE)
    cv_form: str = _categorical(
        "released",
        "CatReinMaxCV: its control variate as in the authors' released code (lower variance, more "
        "bias), or as the paper states it (higher variance).",
        choices=("released", "stgs"),
    )
    rk2_beta: float = _categorical(
        0.5,
        "CatReinMaxRK2: its node; 0.5 is ReinMax, 1 is ST, both at temperature 1.",
        _FINITE,
    )
    rk2_form: str = _categorical(
        "consistent",
        "CatReinMaxRK2: exact for linear f at any rk2_beta, or as in the authors' code.",
        choices=("consistent", "released"),
    )
    track: tuple[str, ...] = field(
        ("NVIL", "SimpleMuProp", "MuProp", "DynamicREBAR", "REBAR"),
        "Estimators compared by SBNTrackGradVariances and CatTrackGradVariances, e.g. "
        "[NVIL,LOO(n_samples=4)].",
        choices=registry.all_labels,
    )
    follow: str = field(
        "SimpleMuProp",
        "Estimator in track whose gradient such a model follows.",
        choices=registry.all_labels,
    )

    @property
    def entry(self) -> registry.Entry:
        """Registry entry of the model."""
        return registry.entry(self.model)

    @property
    def belief_network(self) -> bool:
        """True for a sigmoid belief network, False for a categorical VAE and custom models."""
        return not self.custom_network and (bool(self.latents) or self.entry.latents == "binary")

    @property
    def effective_prior(self) -> str:
        """Prior, "learned" or "uniform"; resolves "auto"."""
        if self.prior != "auto":
            return self.prior
        return "learned" if self.belief_network else "uniform"

    @property
    def fixed_prior(self) -> bool:
        """True if the prior is uniform, and thus not trained."""
        return self.effective_prior == "uniform" and not self.custom_network

    @property
    def custom_network(self) -> bool:
        """True for a model of `rebar.register_model`."""
        return self.network != registry.AUTO

    @property
    def layers(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the stochastic layers, (H,) or (V, C), starting next to the data."""
        if self.latents:
            return tuple(map(layers.shape, self.latents))
        if self.belief_network:
            return ((self.n_hidden,),) * self.n_layer
        return ((self.n_latents, self.n_categories),)

    @property
    def families(self) -> frozenset[str]:
        """Families of the stochastic layers, see `registry.Entry.families`."""
        return frozenset(map(layers.family, self.layers))

    def applies(self, name: str) -> bool:
        """Return whether a hyperparameter applies to the estimator and the model."""
        if self.latents and name in OF_LAYERS:
            return False
        kind = type(self).__dataclass_fields__[name].metadata["latents"]
        if name in OF_ESTIMATORS:
            return kind in (None, self.entry.latents)
        of_model = "binary" if self.belief_network else "categorical"
        return self.custom_network or kind in (None, of_model)
