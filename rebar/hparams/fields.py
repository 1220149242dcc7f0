"""Hyperparameters: names, defaults, help texts and valid values; see `HParams` for their use."""

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from rebar import registry
from rebar.data.sources import TASKS


class _Limit(NamedTuple):
    """A test of a value, and its description after "must be"."""

    test: Callable[[Any], bool]
    text: str


def _hparam(
    default: Any,
    text: str,
    allowed: _Limit | Callable[[], Collection[str]] | tuple[str, ...] | None = None,
    latents: str | None = None,
):
    """Return a field.

    Args:
      default: default value.
      text: help text, one sentence.
      allowed: a limit, the choices, or a function that returns them.
      latents: "binary" or "categorical" if it applies to one family of models only.
    """
    limit = allowed if isinstance(allowed, _Limit) else None
    choices = (lambda: allowed) if isinstance(allowed, tuple) else allowed
    return dataclasses.field(
        default=default,
        metadata={
            "help": text,
            "limit": limit,
            "choices": None if limit else choices,
            "latents": latents,
        },
    )


_BINARY, _CATEGORICAL = "binary", "categorical"
_FINITE = _Limit(math.isfinite, "finite")
_POSITIVE = _Limit(lambda v: 0 < v < math.inf, "above 0 and finite")
_RATE = _Limit(lambda v: 0 <= v < math.inf, "above 0 and finite, or 0 to follow learning_rate")
_FRACTION = _Limit(lambda v: 0 <= v < 1, "at least 0 and below 1")
_AT_LEAST_ONE = _Limit(lambda v: v >= 1, "at least 1")
_AT_LEAST_TWO = _Limit(lambda v: v >= 2, "at least 2")
_PIXELS = _Limit(lambda v: v >= 0, "at least 1, or 0 to follow the data set")
_SEED = _Limit(lambda v: 0 <= v < 2**32, "from 0 to 2**32 - 1")


@dataclasses.dataclass(frozen=True)
class Fields:
    """Fields of `HParams`. The first fifteen are those of the 2017 code, with its defaults (except
    `n_input`, which was 784)."""

    model: str = _hparam("SBNGumbel", "Estimator of the gradient.", registry.names)
    n_hidden: int = _hparam(200, "Units per stochastic layer.", _AT_LEAST_ONE, _BINARY)
    n_input: int = _hparam(0, "Pixels per image; 0 follows the data set.", _PIXELS)
    n_layer: int = _hparam(1, "Stochastic layers.", _AT_LEAST_ONE, _BINARY)
    nonlinear: bool = _hparam(
        False, "Put two hidden layers of n_hidden units before each linear map.", None, _BINARY
    )
    learning_rate: float = _hparam(
        0.001, "Learning rate of the model; control variates learn ten times as fast.", _POSITIVE
    )
    temperature: float = _hparam(
        0.5, "Temperature of relaxed samples, or its initial value where it is learned.", _POSITIVE
    )
    n_samples: int = _hparam(1, "Samples per example.", _AT_LEAST_ONE)
    batch_size: int = _hparam(24, "Examples per minibatch.", _AT_LEAST_ONE)
    trial: int = _hparam(
        1, "Number of a repeat; with --seed it determines all randomness of the run.", _SEED
    )
    muprop_relaxation: bool = _hparam(
        True,
        "Relax as in the REBAR paper's MuProp limit; false: the plain Concrete relaxation.",
        latents=_BINARY,
    )
    dynamic_b: bool = _hparam(False, "Binarize images anew at each use; false: once and for all.")
    quadratic: bool = _hparam(
        True,
        "REBAR: one relaxed pass per layer (work grows with n_layer squared); false: one in all.",
        latents=_BINARY,
    )
    beta2: float = _hparam(0.99999, "Adam's decay rate of the second moment.", _FRACTION)
    optimizer: str = _hparam(
        "adam", "Optimizer of the model: Adam, or RAdam (Liu et al. 2020).", ("adam", "radam")
    )
    task: str = _hparam("sbn", "Data set and objective.", lambda: TASKS)
    conditional: str = _hparam(
        "auto",
        "Network of the conditional tasks: multilayer, or 2017's, whose generator has one layer; "
        "auto: 2017 for one layer or with legacy2017, else multilayer.",
        ("auto", "multilayer", "2017"),
        _BINARY,
    )
    activation: str = _hparam(
        "tanh",
        "Activation of the hidden layers added by nonlinear=true; leaky_relu has slope .3 below 0.",
        ("tanh", "leaky_relu"),
        _BINARY,
    )
    initializer: str = _hparam(
        "2017",
        "Initial weights of the networks: 2017's truncated normal of variance about 2 / fan_in, or "
        "Glorot's uniform of variance 2 / (fan_in + fan_out), as in the DisARM authors' code.",
        ("2017", "glorot"),
        _BINARY,
    )
    learning_rate_generator: float = _hparam(
        0.0, "Learning rate of p without its prior; 0: learning_rate.", _RATE
    )
    learning_rate_prior: float = _hparam(
        0.0, "Learning rate of the prior p(b_L); 0: learning_rate.", _RATE
    )
    prior_optimizer: str = _hparam("adam", "Optimizer of the prior p(b_L).", ("adam", "sgd"))
    learning_rate_control: float = _hparam(
        0.0,
        "Learning rate of control variates and temperatures; 0: ten times learning_rate.",
        _RATE,
    )
    coupling: str = _hparam(
        "auto",
        "Layers that REBAR couples in the term of a layer: that one (switch, unbiased), or also "
        "those above it (all, as in 2017: biased above one layer); auto: all with legacy2017, "
        "else switch.",
        ("auto", "switch", "all"),
        _BINARY,
    )
    continuation: str = _hparam(
        "shared",
        "ARM, DisARM: noise above the layer where a pair of chains separates: shared by both, or "
        "independent.",
        ("shared", "independent"),
        _BINARY,
    )
    symmetrized: bool = _hparam(
        True, "LocalDisARM: average over both orders of an antithetic pair.", latents=_BINARY
    )
    multi_sample: bool = _hparam(
        False, "Follow the multi-sample bound of n_samples instead of the ELBO."
    )
    legacy2017: bool = _hparam(
        False, "Repeat the known errors of the 2017 code, unless set one by one.", latents=_BINARY
    )
    n_categories: int = _hparam(
        8, "Categories per latent variable (models Cat...).", _AT_LEAST_TWO, _CATEGORICAL
    )
    n_latents: int = _hparam(4, "Categorical latent variables.", _AT_LEAST_ONE, _CATEGORICAL)
    prior: str = _hparam(
        "uniform", "Prior of the categorical variables.", ("uniform", "learned"), _CATEGORICAL
    )
    mc_samples: int = _hparam(
        100,
        "CatGumbelRao, CatReinMaxRao and CatReinMaxCV: draws of the noise given the sample.",
        _AT_LEAST_ONE,
        _CATEGORICAL,
    )
    gst_gap: float = _hparam(
        1.0, "CatGST: gap between the sample's logit and the others.", _POSITIVE, _CATEGORICAL
    )
    cv_scale: float = _hparam(
        0.7, "CatReinMaxCV: scale of its control variate.", _FINITE, _CATEGORICAL
    )
    cv_form: str = _hparam(
        "released",
        "CatReinMaxCV: its control variate as in the authors' released code (lower variance, more "
        "bias), or as the paper states it (higher variance).",
        ("released", "stgs"),
        _CATEGORICAL,
    )
    rk2_beta: float = _hparam(
        0.5,
        "CatReinMaxRK2: its node; 0.5 is ReinMax, 1 is ST, both at temperature 1.",
        _FINITE,
        _CATEGORICAL,
    )
    rk2_form: str = _hparam(
        "consistent",
        "CatReinMaxRK2: exact for linear f at any rk2_beta, or as in the authors' code.",
        ("consistent", "released"),
        _CATEGORICAL,
    )
    track: tuple[str, ...] = _hparam(
        ("NVIL", "SimpleMuProp", "MuProp", "DynamicREBAR", "REBAR"),
        "Estimators compared by SBNTrackGradVariances and CatTrackGradVariances.",
        registry.all_labels,
    )
    follow: str = _hparam(
        "SimpleMuProp",
        "Estimator in track whose gradient such a model follows.",
        registry.all_labels,
    )
