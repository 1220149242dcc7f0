"""Color and marker of each estimator, matplotlib settings and files, shared by all figures."""

import io
import re
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from rebar.errors import RebarError

RC = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,
    "text.parse_math": False,
}
"""Settings for `matplotlib.rc_context`."""


class Style(NamedTuple):
    """A color as #rrggbb and a marker of matplotlib."""

    color: str
    marker: str


# The first seven are those of Okabe and Ito; all are well separated, for color-blind readers too.
_PALETTE = tuple(
    map(
        Style,
        (
            *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"),
            *("#8800FF", "#663311", "#112288", "#99BB66", "#BB55FF", "#DD0044", "#554455"),
            *("#00B3B3", "#7A6F00", "#AA8888", "#3355FF", "#FF9999", "#990088", "#FF00BB"),
            *("#005500", "#00DD00", "#FF88FF"),
        ),
        "os^DvPXd<*>ph8H.1234+x|_",
    )
)
# Estimators for binary and for categorical latents rarely share a figure, so both use all of it.
_BINARY = (
    *("DisARM", "LOO", "RELAX", "DynamicREBAR", "ARM", "NVIL", "REINFORCE"),
    *("REBAR", "MuProp", "VIMCO", "SimpleMuProp", "LocalDisARM", "Gumbel"),
    *("DoubleCV", "RODEO", "ARMS", "BitFlip", "OVIS", "RWS", "LEG", "UGC", "tUGC"),
)
_CATEGORICAL = (
    *("ReinMax", "LOO", "ReinMaxRao", "ReinMaxCV", "ST-GS", "ST", "REINFORCE"),
    *("GumbelRao", "ReinMaxRK2", "ARSM", "Exact", "ReinDGE", "GST", "", "CARMS", "UNORD"),
    *("DisARM-SB", "DisARM-Tree", "DisARM-IW"),
    *("IndeCateR", "SumAndSample", "ZGR", "DecoupledST", "ReDGE"),
)
STYLES = {
    label: style
    for labels in (_BINARY, _CATEGORICAL)
    for label, style in zip(labels, _PALETTE, strict=False)
    if label
}
"""Label -> style of the built-in estimators, and of those added."""


def add(label: str, color: str, marker: str = "o") -> None:
    """Set the style of an estimator's label, e.g. in the module of a plug-in.

    Args:
      label: label of `rebar.register`, by default the name.
      color: #rrggbb.
      marker: marker of matplotlib.

    Raises:
      RebarError: another form of color, or no marker.
    """
    if not (isinstance(color, str) and re.fullmatch("#[0-9a-fA-F]{6}", color)):
        raise RebarError(f"color={color!r}: must be six hexadecimal digits; use e.g. '#0072B2'")
    if not (isinstance(marker, str) and marker):
        raise RebarError(f"marker={marker!r}: must be a marker of matplotlib; use e.g. 'o'")
    STYLES[label] = Style(color, marker)


def styles(labels: Sequence[str]) -> list[Style]:
    """One style per line of a figure.

    An unknown label gets a color that no other label of the figure has, while there are any left.
    Lines of one label have one color and several markers.
    """
    chosen = {label: STYLES[label] for label in labels if label in STYLES}
    for label in labels:
        if label not in chosen:
            free = [style for style in _PALETTE if style not in chosen.values()] or _PALETTE
            chosen[label] = free[zlib.crc32(label.encode()) % len(free)]
    result: list[Style] = []
    for label in labels:
        color, marker = chosen[label]
        markers = [marker, *(style.marker for style in _PALETTE)]
        choices = [Style(color, other) for other in markers]
        result.append(next((style for style in choices if style not in result), choices[0]))
    return result


def render(figure: Any, suffix: str, dpi: int = 200, about: str | None = None) -> bytes:
    """The content of a figure's file, "png" or "pdf", whose metadata have `about` as title."""
    import matplotlib

    content = io.BytesIO()
    metadata = {"Title": about} | ({"CreationDate": None} if suffix == "pdf" else {})
    with matplotlib.rc_context(RC):
        figure.savefig(content, format=suffix, dpi=dpi, metadata=metadata)
    return content.getvalue()
