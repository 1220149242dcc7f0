"""Arguments of an objective in the data of Keras."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

from rebar.errors import RebarError

_WEIGHTS = (
    "sample_weight and class_weight: unsupported; pass weights as a part of x, and multiply the "
    "objective's values by them"
)


def without_weights(method: Callable) -> Callable:
    """Return a method that refuses weights of examples, which Keras drops if there is no y."""

    @functools.wraps(method)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("sample_weight") is not None or kwargs.get("class_weight") is not None:
            raise RebarError(_WEIGHTS)
        return method(*args, **kwargs)

    return checked


def arguments_of(objective: Callable, data: Any, name: str) -> tuple:
    """Return the arguments of the objective of a model's class `name` in a batch of Keras."""
    x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise RebarError(_WEIGHTS)
    arguments = (x,) if y is None else (x, y)
    signature = inspect.signature(objective)
    try:
        signature.bind(None, *arguments)
    except TypeError as error:
        raise RebarError(
            f"{name}.objective{signature} with data ({', '.join('xy'[: len(arguments)])}): "
            f"{error}; define objective(self, sample, x) for fit(x), or objective(self, sample, "
            "x, y) for fit(x, y)"
        ) from error
    return arguments
