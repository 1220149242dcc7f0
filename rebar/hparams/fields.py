"""The hyperparameters: names, defaults, what they mean and which values they take.

`HParams` (rebar/hparams/hparams.py) is these fields and what can be done with them.
"""

import dataclasses
import math

from rebar import registry
from rebar.data.sources import TASKS


def _hparam(default, text, choices=None, allowed=None, latents=None):
    """A field with its help text, `choices()` -> allowed names, `allowed`: (test, its words).

    `latents`: of the models that it is for, "binary" or "categorical"; None: of all.
    """
    metadata = {"help": text, "choices": choices, "allowed": allowed, "latents": latents}
    return dataclasses.field(default=default, metadata=metadata)


_AT_LEAST_ONE = (lambda v: v >= 1, "at least 1")
_POSITIVE = (lambda v: 0 < v < math.inf, "above 0 and finite")
_OWN_RATE = (lambda v: 0 <= v < math.inf, "above 0 and finite, or 0 to follow learning_rate")


@dataclasses.dataclass(frozen=True)
class Fields:
    """One field a hyperparameter. The first fifteen are the original's, with its defaults (except
    `n_input`, which was 784)."""

    model: str = _hparam("SBNGumbel", "Estimator of the gradient.", choices=registry.names)
    n_hidden: int = _hparam(
        200, "Units in each stochastic layer.", allowed=_AT_LEAST_ONE, latents="binary"
    )
    n_input: int = _hparam(
        0,
        "Pixels of an image; 0 follows the data set.",
        allowed=(lambda v: v >= 0, "at least 1, or 0 to follow the data set"),
    )
    n_layer: int = _hparam(1, "Stochastic layers.", allowed=_AT_LEAST_ONE, latents="binary")
    nonlinear: bool = _hparam(
        False,
        "Two hidden layers of n_hidden units before each linear map, instead of none: tanh, or "
        "what activation says.",
        latents="binary",
    )
    learning_rate: float = _hparam(
        0.001,
        "Learning rate of the model; control variates learn ten times as fast.",
        allowed=_POSITIVE,
    )
    temperature: float = _hparam(
        0.5,
        "Temperature of the relaxation; where it is learned, its initial value. It never changes "
        "how hard samples are drawn.",
        allowed=_POSITIVE,
    )
    n_samples: int = _hparam(1, "Samples drawn for each example.", allowed=_AT_LEAST_ONE)
    batch_size: int = _hparam(24, "Examples in a minibatch.", allowed=_AT_LEAST_ONE)
    trial: int = _hparam(
        1,
        "Number of a repeat; with --seed it determines all randomness of the run.",
        allowed=(lambda v: 0 <= v < 2**32, "from 0 to 2**32 - 1"),
    )
    muprop_relaxation: bool = _hparam(
        True,
        "Relax as in the REBAR paper's MuProp limit; false: the plain Concrete relaxation.",
        latents="binary",
    )
    dynamic_b: bool = _hparam(
        False, "Binarize images anew each time they are used; false: once and for all."
    )
    quadratic: bool = _hparam(
        True,
        "One relaxed pass of REBAR for each layer (work grows with n_layer squared); false: one "
        "for all layers together.",
        latents="binary",
    )
    beta2: float = _hparam(
        0.99999,
        "Adam's decay of the second moment.",
        allowed=(lambda v: 0 <= v < 1, "at least 0 and below 1"),
    )
    optimizer: str = _hparam(
        "adam",
        "Optimizer of the model: Adam, or RAdam (Liu et al. 2020).",
        choices=lambda: ("adam", "radam"),
    )
    task: str = _hparam("sbn", "Data set and objective.", choices=lambda: TASKS)
    conditional: str = _hparam(
        "auto",
        "Network of the conditional tasks: multilayer, or 2017's, whose generator has one layer; "
        "auto: 2017 for one layer or with legacy2017, else multilayer.",
        choices=lambda: ("auto", "multilayer", "2017"),
        latents="binary",
    )
    activation: str = _hparam(
        "tanh",
        "Of the hidden layers that nonlinear adds; leaky_relu has slope .3 below 0.",
        choices=lambda: ("tanh", "leaky_relu"),
        latents="binary",
    )
    initializer: str = _hparam(
        "2017",
        "Initial weights of the networks: 2017's truncated normal of variance about 2 / fan_in, or "
        "Glorot's uniform of variance 2 / (fan_in + fan_out), as in the DisARM authors' code.",
        choices=lambda: ("2017", "glorot"),
        latents="binary",
    )
    learning_rate_generator: float = _hparam(
        0.0, "Learning rate of p without its prior; 0: learning_rate.", allowed=_OWN_RATE
    )
    learning_rate_prior: float = _hparam(
        0.0, "Learning rate of the prior p(b_L); 0: learning_rate.", allowed=_OWN_RATE
    )
    prior_optimizer: str = _hparam(
        "adam", "Optimizer of the prior p(b_L).", choices=lambda: ("adam", "sgd")
    )
    learning_rate_control: float = _hparam(
        0.0,
        "Learning rate of control variates and temperatures; 0: ten times learning_rate.",
        allowed=_OWN_RATE,
    )
    coupling: str = _hparam(
        "auto",
        "Layers that REBAR couples in the term of a layer: that one (switch, unbiased), or also "
        "those above it (all, as in 2017: biased above one layer); auto: all with legacy2017, "
        "else switch.",
        choices=lambda: ("auto", "switch", "all"),
        latents="binary",
    )
    continuation: str = _hparam(
        "shared",
        "Noise of the layers above the one where the two chains of a pair part (ARM, DisARM): "
        "that of the main chain, or independent.",
        choices=lambda: ("shared", "independent"),
        latents="binary",
    )
    symmetrized: bool = _hparam(
        True,
        "LocalDisARM: average over both members of a pair in the role of the sample.",
        latents="binary",
    )
    multi_sample: bool = _hparam(
        False,
        "Follow the multi-sample bound of n_samples instead of the ELBO, for estimators that can "
        "do both.",
    )
    legacy2017: bool = _hparam(
        False,
        "Repeat the known errors of the 2017 code, where not set one by one.",
        latents="binary",
    )
    n_categories: int = _hparam(
        8,
        "Categories of a latent variable (models Cat...).",
        allowed=(lambda v: v >= 2, "at least 2"),
        latents="categorical",
    )
    n_latents: int = _hparam(
        4, "Categorical latent variables.", allowed=_AT_LEAST_ONE, latents="categorical"
    )
    prior: str = _hparam(
        "uniform",
        "Prior of the categorical variables.",
        choices=lambda: ("uniform", "learned"),
        latents="categorical",
    )
    mc_samples: int = _hparam(
        100,
        "Draws of the noise given the sample that CatGumbelRao, CatReinMaxRao and CatReinMaxCV "
        "average over.",
        allowed=_AT_LEAST_ONE,
        latents="categorical",
    )
    gst_gap: float = _hparam(
        1.0,
        "CatGST: by how much the sample's logit is raised above the others.",
        allowed=_POSITIVE,
        latents="categorical",
    )
    cv_scale: float = _hparam(
        0.7,
        "CatReinMaxCV: scale of its control variate.",
        allowed=(math.isfinite, "finite"),
        latents="categorical",
    )
    cv_form: str = _hparam(
        "released",
        "CatReinMaxCV: its control variate as in the authors' released code (lower variance, more "
        "bias), or as the paper states it (higher variance).",
        choices=lambda: ("released", "stgs"),
        latents="categorical",
    )
    rk2_beta: float = _hparam(
        0.5,
        "CatReinMaxRK2: its node; 0.5 is ReinMax, 1 is ST, both at temperature 1.",
        allowed=(math.isfinite, "finite"),
        latents="categorical",
    )
    rk2_form: str = _hparam(
        "consistent",
        "CatReinMaxRK2: exact for linear f whatever rk2_beta is, or as in the authors' code.",
        choices=lambda: ("consistent", "released"),
        latents="categorical",
    )
    track: tuple[str, ...] = _hparam(
        ("NVIL", "SimpleMuProp", "MuProp", "DynamicREBAR", "REBAR"),
        "Estimators whose variances SBNTrackGradVariances or CatTrackGradVariances compares.",
        choices=registry.all_labels,
    )
    follow: str = _hparam(
        "SimpleMuProp",
        "The one of `track` whose gradient such a model follows.",
        choices=registry.all_labels,
    )
