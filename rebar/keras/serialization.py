"""Configurations of estimators in saved Keras models."""

from collections.abc import Mapping
from typing import Any

from rebar import registry
from rebar.errors import RebarError
from rebar.objectives.estimate import estimator


def to_config(argument: Any) -> Any:
    """Return a name, [label, options] of an instance, or a mapping from sites to either.

    Raises:
      RebarError: an instance of an unregistered class, or with options that are not numbers,
        strings or booleans.
    """
    if isinstance(argument, str):
        return argument
    if isinstance(argument, Mapping):
        return {site: to_config(member) for site, member in argument.items()}
    name = type(argument).__name__
    entry = registry.entry_of(type(argument))
    if entry is None:
        raise RebarError(
            f"estimator {name}: cannot be saved, because its class is not registered; call "
            f"rebar.register({name!r}, {name})"
        )
    try:
        options = argument.get_config()
    except NotImplementedError as error:
        raise RebarError(
            f"estimator {name}: cannot be saved, because it was created with arguments other than "
            "numbers, strings and booleans; implement get_config()"
        ) from error
    return [entry.label, {name: value for name, value in options.items() if name != "name"}]


def from_config(config: Any) -> Any:
    """Return the argument of `to_config`."""
    if isinstance(config, str):
        return config
    if isinstance(config, Mapping):
        return {site: from_config(member) for site, member in config.items()}
    label, options = config
    return estimator(label, **options)
