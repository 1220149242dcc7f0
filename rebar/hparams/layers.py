"""Stochastic layers as written in `latents=[200,8x4]`: units, or categories x variables."""

import re
from collections.abc import Sequence

LAYER = re.compile(r"(?:([2-9]|[1-9][0-9]{1,8})x)?([1-9][0-9]{0,8})")


def shape(text: str) -> tuple[int, ...]:
    """Return the shape of a layer that matches LAYER: (200,) of "200", (4, 8) of "8x4"."""
    match = LAYER.fullmatch(text)
    assert match
    categories, number = match.groups()
    return (int(number),) if categories is None else (int(number), int(categories))


def family(shape: Sequence[int]) -> str:
    """Return the family of a layer of shape (H,) or (V, C), as in `registry.Entry.families`."""
    return "bernoulli" if len(shape) == 1 else "categorical"


def describe(shapes: Sequence[Sequence[int]]) -> str:
    """Describe layers: "200 units" (all of them), "200 units and 4 variables of 8 categories"."""
    texts = [
        f"{s[0]} units" if len(s) == 1 else f"{s[0]} variables of {s[1]} categories" for s in shapes
    ]
    return texts[0] if len(set(texts)) == 1 else " and ".join(texts)
