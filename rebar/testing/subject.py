"""The estimator to be checked: its construction and its problems."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rebar import registry
from rebar.errors import RebarError, did_you_mean
from rebar.estimators.base import Estimator
from rebar.hparams import HParams
from rebar.testing.problems import (
    BINARY,
    CATEGORICAL,
    CATEGORICAL_LAYERS,
    MIXED,
    SMALL,
    Problem,
    perturb,
)
from rebar.types import Model


class Subject(NamedTuple):
    """An estimator to be checked.

    Attributes:
      name: name in the report.
      entry: limits such as min_samples, see `registry.Entry`.
      build: function of constructor arguments that returns an estimator.
      settings: constructor arguments to check, `Estimator.verified` of the class.
    """

    name: str
    entry: registry.Entry
    build: Callable[..., Estimator]
    settings: tuple[Mapping[str, Any], ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Problems with the estimator's kind of latent variables."""
        return BINARY if self.entry.latents == "binary" else CATEGORICAL

    @property
    def mixed(self) -> tuple[Problem, ...]:
        """Hierarchies with categorical layers, of both families if the estimator supports them.

        Cat... names train the same belief networks, so SBN... names represent them.
        """
        if self.entry.latents == "categorical":
            return (CATEGORICAL_LAYERS,) if len(self.entry.families) == 1 else ()
        both = set(registry.FAMILIES).issubset(self.entry.families)
        return tuple(MIXED) if both else ()

    def couples_rows(self, settings: Mapping[str, Any]) -> bool:
        """Return `Estimator.couples_rows` with some settings."""
        return self.build(**settings).couples_rows

    def learns(self, settings: Mapping[str, Any]) -> bool:
        """Return whether the estimator has learned parts besides those of tracked estimators."""
        learned = self.set_up(self.problems[0].model(), **settings).trainable_variables
        return bool(learned) and not self.entry.tracks

    def set_up(self, model: Model, control: float = SMALL, **settings: Any) -> Estimator:
        """Return the estimator for a model.

        Args:
          model: see `rebar.types.Model`.
          control: size of the deviation of all learned weights from their initial values, see
            `problems.perturb`.
          **settings: constructor arguments.
        """
        estimator = self.build(**settings)
        estimator.setup(model, 2)
        perturb(estimator.trainable_variables, 2, control)
        return estimator

    def n_samples(self, estimator: Estimator, least: int = 1) -> int:
        """Return the smallest number of samples, with chains for `least` samples of the bound."""
        return self.entry.n_samples(least * estimator.samples_per_chain)


def subject(estimator: str | type[Estimator], **limits: Any) -> Subject:
    """Return the subject of a registered name or an `Estimator` subclass.

    Args:
      estimator: name of a model, or a class.
      **limits: attributes of `registry.Entry` for a class, such as min_samples=2.

    Raises:
      RebarError: an unknown name or limit, limits of a name, or another type.
    """
    _check_limits(estimator, limits)
    if isinstance(estimator, str):
        entry, target = registry.entry(estimator), registry.target(estimator)
        if entry.tracks:
            entry = dataclasses.replace(entry, min_samples=2)
            return Subject(estimator, entry, _from_hparams(estimator, entry), _tracked(entry))
        if not isinstance(target, type):
            return Subject(estimator, entry, _from_hparams(estimator, entry), ({},))
        build = functools.partial(target, **entry.hparams)
        return Subject(estimator, entry, build, tuple(target.verified))
    if isinstance(estimator, type) and issubclass(estimator, Estimator):
        entry = registry.Entry(estimator, estimator.__name__, **limits)
        return Subject(estimator.__name__, entry, estimator, tuple(estimator.verified))
    raise RebarError(
        f"estimator={estimator!r}: must be the name of a model or a subclass of rebar.Estimator; "
        "pass e.g. 'SBNDisARM'"
    )


def _check_limits(estimator, limits):
    """Raise RebarError for unknown limits, and for any of a registered name."""
    valid = [field.name for field in dataclasses.fields(registry.Entry)][2:]
    for name, value in limits.items():
        if name not in valid:
            raise RebarError(
                f"{name}={value!r}: unknown limit of an estimator; choose from {', '.join(valid)}"
                f"{did_you_mean(name, valid)}"
            )
        if isinstance(estimator, str):
            raise RebarError(
                f"{name}={value!r}: unsupported for a registered name, whose limits are those of "
                f"rebar.register; remove it, or pass the class of {estimator}"
            )


def _from_hparams(name, entry):
    """Return the constructor of trackers and registered functions, from hyperparameters."""

    def build(**settings):
        hparams = HParams(model=name, n_samples=entry.n_samples(2), **settings)
        return registry.make_estimator(name, hparams)

    return build


def _tracked(entry):
    """Return settings that track a biased and an unbiased estimator, and follow each."""
    labels = registry.labels(entry.latents)
    classes = {label: registry.target(name) for label, name in labels.items()}
    unbiased = next(n for n, c in classes.items() if c.unbiased and not c.couples_rows)
    biased = next(n for n, c in classes.items() if not c.unbiased)
    track = (biased, unbiased)
    return {"track": track, "follow": unbiased}, {"track": track, "follow": biased}
