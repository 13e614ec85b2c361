"""The style of figures: colors, markers and line styles."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

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
    "pdf.fonttype": 42,  # TrueType: journals and conferences refuse matplotlib's default, Type 3
}


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure as a picture, and beside it as a PDF for papers, whose lines and letters scale.

    The PDF has no date, so that the same numbers give the same file. Call it with `STYLE` in effect.

    Args:
        figure: the figure.
        path: of the picture, such as plots/curves.png; the PDF is plots/curves.pdf.
    """
    figure.savefig(path)
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})


def line_styles() -> Iterator[tuple[str, str]]:
    """Yield endless pairs of a color and a dash: all colors with the first dash, then with the second."""
    return ((color, dash) for dash in cycle(DASHES) for color in COLORS)
