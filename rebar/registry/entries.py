"""Entries of the registry: what it knows of an estimator or a model."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rebar.errors import RebarError, integer

LATENTS = ("binary", "categorical")
FAMILIES = ("bernoulli", "categorical")
"""Families of latent variables, those of the layers by default for each of LATENTS."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """Registered estimator.

    Attributes:
      target: "module:Class" of an `Estimator`, or a callable HParams -> Estimator.
      label: name in `track=[...]`, `follow=...`, logs and figures.
      min_rows: minimum of batch_size * n_samples.
      min_samples: minimum of n_samples.
      samples: factor of n_samples.
      multi_sample: supports multi_sample=true.
      latents: latent variables of its models by default, "binary" or "categorical".
      families: families of layers that it supports, "bernoulli", "categorical" or both; (): that of
        `latents`. The same as `Estimator.families` for built-in estimators.
      tracks: runs the estimators in `track` side by side.
      hparams: name -> default of additional hyperparameters, arguments of the class.
      module: module of the plug-in that registered it, or "".
    """

    target: str | Callable[[Any], Any]
    label: str
    min_rows: int = 1
    min_samples: int = 1
    samples: int = 1
    multi_sample: bool = False
    latents: str = "binary"
    families: Sequence[str] = ()
    tracks: bool = False
    hparams: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    module: str = ""

    def __post_init__(self):
        for name in ("min_rows", "min_samples", "samples"):
            count = integer(getattr(self, name), name, example=2)
            object.__setattr__(self, name, count)
        if self.latents not in LATENTS:
            raise RebarError(f"latents={self.latents!r}: choose from {', '.join(LATENTS)}")
        family = FAMILIES[LATENTS.index(self.latents)]
        families = tuple(self.families or (family,))
        if family not in families or not set(families) <= set(FAMILIES):
            raise RebarError(
                f"families={self.families!r}: must be {family} and possibly others of "
                f"{', '.join(FAMILIES)}; use e.g. {FAMILIES}"
            )
        object.__setattr__(self, "families", families)

    def n_samples(self, least: int) -> int:
        """Return the smallest valid n_samples, `least` or more."""
        return suitable_samples([self], least)


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """Registered model, see `register_model`."""

    factory: str | Callable[..., Any]
    hparams: Mapping[str, Any]
    module: str


def suitable_samples(entries: Collection[Entry], least: int) -> int:
    """Return the smallest n_samples, `least` or more, that suits several estimators."""
    step = math.lcm(*(entry.samples for entry in entries))
    least = max([least, *(entry.min_samples for entry in entries)])
    return math.ceil(least / step) * step
