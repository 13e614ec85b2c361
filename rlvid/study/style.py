"""How pictures look: colours, marks, dashes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

# Okabe and Ito's palette, which colour-blind readers can tell apart, less its yellow, which paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKS = ("o", "s", "D", "^", "v", "P", "X", "*")
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
    "text.parse_math": False,  # names are names, dollars and all
}


def looks() -> Iterator[tuple[str, str]]:
    """Colours and dashes, first all colours in one dash."""
    return ((colour, dash) for dash in cycle(DASHES) for colour in COLOURS)
