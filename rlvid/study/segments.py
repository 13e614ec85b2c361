"""Text of rich in pieces of one style, for tables as HTML."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from rich.text import Text


def styled_segments(value: Any) -> list[tuple[str, str]]:
    """Return the text of a table's cell as pieces with their styles; a string may hold rich's markup.

    >>> styled_segments("[bold]53.3[/]  [dim]36.1–69.8[/]")
    [('53.3', 'bold'), ('  ', ''), ('36.1–69.8', 'dim')]
    """
    text = value if isinstance(value, Text) else Text.from_markup(str(value))
    cuts = sorted({0, len(text), *(span.start for span in text.spans), *(span.end for span in text.spans)})
    return [
        (text.plain[start:end], " ".join([str(text.style), *_styles_at(text, start)]).strip())
        for start, end in pairwise(cuts)
    ]


def _styles_at(text: Text, position: int) -> list[str]:
    return [str(span.style) for span in text.spans if span.start <= position < span.end]
