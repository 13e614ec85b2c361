"""The style of figures: colors, markers and line styles."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

# Okabe and Ito's palette, which colour-blind readers can distinguish, without its yellow, which is pale on paper.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
DASHES = ("-", "--", ":", "-.")
STYLE: dict[Any, Any] = {
    "figure.dpi": 150,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,  # an arm's name may contain a dollar sign
}


def line_styles() -> Iterator[tuple[str, str]]:
    """Yield endless pairs of a color and a dash: all colors with the first dash, then with the second."""
    return ((color, dash) for dash in cycle(DASHES) for color in COLORS)
