"""An interval drawn in a line of text, on a scale that is symmetric about zero."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from rlvid.study.stats import Interval


@dataclass(frozen=True)
class Strip:
    """A table cell that shows an interval from -reach to +reach: as text in a terminal, as a line on the page."""

    interval: Interval
    reach: float
    color: str  # a style of rich

    def __rich__(self) -> Text:
        """Return the text that a terminal shows."""
        return Text(draw_strip(self.interval, self.reach), self.color)


def draw_strip(interval: Interval, reach: float, width: int = 11) -> str:
    """Return a line of `width` characters from -reach to +reach, with zero in the middle: `         │  ━━●━━━`."""
    low, value, high, zero = (
        round((x / reach + 1) / 2 * (width - 1)) for x in (interval.low, interval.value, interval.high, 0.0)
    )
    cells = [" "] * low + ["━"] * (high - low + 1) + [" "] * (width - 1 - high)
    cells[value] = "●"
    if zero != value:
        cells[zero] = "┿" if interval.low <= 0 <= interval.high else "│"
    return "".join(cells)
