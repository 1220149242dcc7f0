"""How an estimator is drawn: one colour and one marker, by its label, in every figure.

The first seven colours are those of Okabe and Ito; the others were chosen one after the other as
far as can be from all before, in CIELAB, for the worst of normal sight and three kinds of colour
blindness (Machado et al. 2009). `tests/compare/test_styles.py` measures the distances. Markers say
the same once more, for prints without colour.
"""

import hashlib
from typing import NamedTuple


class Style(NamedTuple):
    """A colour as #rrggbb and a marker of matplotlib."""

    colour: str
    marker: str


STYLES = {
    "DisARM": Style("#0072B2", "o"),
    "LOO": Style("#D55E00", "s"),
    "RELAX": Style("#009E73", "^"),
    "DynamicREBAR": Style("#CC79A7", "D"),
    "ARM": Style("#56B4E9", "v"),
    "NVIL": Style("#E69F00", "P"),
    "REINFORCE": Style("#000000", "X"),
    "REBAR": Style("#8800FF", "d"),
    "MuProp": Style("#663311", "<"),
    "VIMCO": Style("#112288", "*"),
    "SimpleMuProp": Style("#99BB66", ">"),
    "LocalDisARM": Style("#BB55FF", "p"),
    "Gumbel": Style("#DD0044", "h"),
}
"""Label -> style. A label that is not here gets one by its letters, see `style`."""

# Estimators of categorical latents never share a figure with the others (but for LOO and REINFORCE,
# which both have), so the colours can be used again.
_CATEGORICAL = {
    "ReinMax": "DisARM",
    "ReinMaxRao": "RELAX",
    "ReinMaxCV": "DynamicREBAR",
    "ReinMaxRK2": "MuProp",
    "ST": "NVIL",
    "ST-GS": "ARM",
    "GumbelRao": "REBAR",
    "GST": "Gumbel",
    "Exact": "SimpleMuProp",
}

_COLOURS = [s.colour for s in STYLES.values()] + ["#554455"]
MARKERS = [s.marker for s in STYLES.values()]
STYLES |= {label: STYLES[other] for label, other in _CATEGORICAL.items()}


def style(label: str) -> Style:
    """The style of an estimator, always the same for the same label."""
    if label in STYLES:
        return STYLES[label]
    digest = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big")
    rest, colour = divmod(digest, len(_COLOURS))
    return Style(_COLOURS[colour], MARKERS[rest % len(MARKERS)])


def styles(labels: list[str]) -> list[Style]:
    """A style for each line of a figure.

    Colours are always those of `style`. Where two lines would look alike (one estimator with two
    settings, or two labels that share a colour), the later one takes the next free marker.
    """
    taken: set[Style] = set()
    result = []
    for label in labels:
        colour, marker = style(label)
        start = MARKERS.index(marker)
        choices = [Style(colour, m) for m in MARKERS[start:] + MARKERS[:start]]
        found = next((s for s in choices if s not in taken), choices[0])
        taken.add(found)
        result.append(found)
    return result
