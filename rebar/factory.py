"""Models, estimators and their training state from hyperparameters."""

import itertools
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rebar import noise, plugins, registry
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.hparams import HParams
from rebar.models.categorical_vae import HIDDEN, CategoricalVAE
from rebar.models.conditional import ConditionalSBN, SingleLayerConditional
from rebar.models.sbn import SigmoidBeliefNetwork
from rebar.objectives import network
from rebar.runs import environment
from rebar.training.learner import Learner
from rebar.training.optimizers import Rates

_BYTES_PER_WEIGHT = 20
"""float32 weight, its gradient, Adam's two moments, and the running mean of its gradient."""


def require_memory(hparams: HParams, pixels: int) -> None:
    """Raise RebarError if the training state of a model of D pixels exceeds the memory."""
    n_weights = count_weights(hparams, pixels)
    needed, available = _BYTES_PER_WEIGHT * n_weights, _memory()
    if needed > available:
        sizes = "n_hidden or n_layer" if hparams.belief_network else "n_latents or n_categories"
        sizes = "the sizes in latents" if hparams.latents else sizes
        raise RebarError(
            f"{hparams.model}: {n_weights:,} weights need {needed / 2**30:,.0f} GiB with gradients "
            f"and optimizer state, but this machine has {available / 2**30:.0f} GiB; reduce {sizes}"
        )


def count_weights(hparams: HParams, pixels: int) -> int:
    """Return the number of weights of q and p without biases, an upper bound if conditional."""
    widths, count = [*map(math.prod, hparams.layers)], 0
    if not hparams.belief_network:
        return 2 * _dense([pixels, *HIDDEN, *widths])
    for below, width in itertools.pairwise([pixels, *widths]):
        extra = 2 * [width] if hparams.nonlinear else []
        count += _dense([below, *extra, width]) + _dense([width, *extra, below])
    return count


def _dense(widths) -> int:
    return sum(a * b for a, b in itertools.pairwise(widths))


def _memory() -> float:
    """Return the bytes of memory of the machine, or the limit of its container."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):  # no container, or "max"
            continue
    return min(limits)


def make_model(
    hparams: HParams, mean, conditional: bool, seed=0, image_shape: Sequence[int] | None = None
) -> Any:
    """Return the model with the sizes and networks in hparams.

    Args:
      hparams: hyperparameters.
      mean: [D] mean of the training images.
      conditional: the task is to predict the lower half of an image.
      seed: seed of the initial weights, an integer or (seed, trial).
      image_shape: (h, w), for custom models; by default a square.

    Raises:
      RebarError: the model does not fit into memory, Keras has an unsupported configuration, or
        the factory of a custom model returned something else.
    """
    environment.check()
    model_seed = noise.initializer_seed(seed, "model")
    temperature = dict(hparams.custom).get("forward_temperature", 1.0)
    if hparams.custom_network:
        if temperature != 1:
            raise RebarError(
                f"forward_temperature={temperature}: unsupported by network={hparams.network}, "
                "whose logits it does not divide; remove it, and divide them in the network"
            )
        return _custom_model(hparams, np.asarray(mean), model_seed, image_shape)
    require_memory(hparams, len(mean))
    if not hparams.belief_network:
        ((n_latents, n_categories),) = hparams.layers
        return CategoricalVAE(
            n_categories,
            n_latents,
            mean,
            hparams.effective_prior,
            model_seed,
            likelihood=hparams.likelihood,
            posterior_temperature=temperature,
        )
    family = SigmoidBeliefNetwork
    if conditional:
        single = hparams.effective_conditional == "2017"
        family = SingleLayerConditional if single else ConditionalSBN
    return family(
        hparams.layers,
        mean,
        nonlinear=hparams.nonlinear,
        activation=hparams.activation,
        initializer=hparams.initializer,
        seed=model_seed,
        likelihood=hparams.likelihood,
        prior=hparams.effective_prior,
        posterior_temperature=temperature,
    )


def _custom_model(hparams, mean, seed, image_shape):
    """Return the model of a registered factory."""
    name, side = hparams.network, math.isqrt(len(mean))
    square = (side, side) if side**2 == len(mean) else (1, len(mean))
    arguments = {"hparams": hparams, "mean": mean, "seed": seed}
    arguments["image_shape"] = tuple(image_shape or square)
    factory = registry.resolved(registry.model(name).factory)
    with noise.default_seed(seed):
        result = plugins.call(factory, arguments, f"factory of network={name}")
        return network.network(name, result, mean)


def make_learner(
    hparams: HParams,
    estimator: Estimator,
    mean,
    conditional: bool,
    seed=0,
    freeze_generator: bool = False,
    image_shape: Sequence[int] | None = None,
) -> Learner:
    """Return the training state of an estimator and a new model; see `make_model`."""
    model = make_model(hparams, mean, conditional, seed, image_shape)
    if hparams.custom_network:
        network.check_estimator(hparams.network, model, estimator)
    estimator.setup(model, noise.initializer_seed(seed, "estimator"))
    return Learner(
        model,
        estimator,
        hparams.learning_rate,
        hparams.beta2,
        freeze_generator=freeze_generator,
        rates=Rates(
            hparams.learning_rate_generator,
            hparams.learning_rate_prior,
            hparams.prior_optimizer,
            hparams.learning_rate_control,
            hparams.optimizer,
        ),
        numbered=hparams.custom_network,
    )
