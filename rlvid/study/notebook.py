"""The tables of a report as HTML, for a notebook. Styles are inline, since notebooks share one page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from rich.table import Table
from rich.text import Text

from rlvid.study.segments import styled_segments
from rlvid.study.strip import Strip

COLORS = {"green": "#2e7d32", "red": "#c62828", "yellow": "#a66a00", "cyan": "#00838f"}  # readable on white and black
CELL = "padding: 0 .8em 0 0; vertical-align: top"
STRIP_WIDTH, STRIP_HEIGHT = 100, 12  # CSS pixels


def render_html(title: str, subtitle: str, sections: Iterable[tuple[str, list[Table | Text]]]) -> str:
    """Return a report's title and its sections, each with a heading, as HTML. All text is escaped."""
    parts = [f"<h3>{escape(title)}</h3>", f'<p style="opacity: .7">{escape(subtitle)}</p>']
    for heading, contents in sections:
        parts.append(f"<h4>{escape(heading)}</h4>")
        parts += [table_html(part) if isinstance(part, Table) else _words_html(part) for part in contents]
    return f"<div>{''.join(parts)}</div>"


def table_html(table: Table) -> str:
    """Return a table of rich as an HTML table; a `Strip` is drawn."""
    aligned = ["right" if column.justify == "right" else "left" for column in table.columns]
    head = "".join(
        f'<th style="{CELL}; text-align: {align}">{_cell_html(column.header)}</th>'
        for column, align in zip(table.columns, aligned, strict=True)
    )
    rows = []
    cells_by_row = zip(*(column.cells for column in table.columns), strict=True)
    for row, cells in zip(table.rows, cells_by_row, strict=True):
        drawn = (
            f'<td style="{CELL}; text-align: {align}">{_cell_html(cell)}</td>'
            for cell, align in zip(cells, aligned, strict=True)
        )
        rows.append(f'<tr style="{_css(str(row.style or ""))}">{"".join(drawn)}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _words_html(words: Text) -> str:
    return f'<p style="max-width: 80ch; white-space: pre-line; {_css(str(words.style))}">{escape(words.plain)}</p>'


def _cell_html(value: Any) -> str:
    if isinstance(value, Strip):
        return _strip_svg(value)
    parts = []
    for text, style in styled_segments(value):
        lines, css = escape(text).replace("\n", "<br>"), _css(style)
        parts.append(f'<span style="{css}">{lines}</span>' if css else lines)
    return "".join(parts)


def _strip_svg(strip: Strip) -> str:
    """Draw an interval as a line and its value as a dot, on a scale from -reach to +reach with a tick at 0."""
    ends = strip.interval.low, strip.interval.value, strip.interval.high
    low, value, high = (STRIP_WIDTH * (end / strip.reach + 1) / 2 for end in ends)
    color, middle = COLORS.get(strip.color.split()[-1], "currentColor"), STRIP_HEIGHT / 2
    label = f"{100 * ends[1]:+.1f} points, from {100 * ends[0]:+.1f} to {100 * ends[2]:+.1f}"
    zero = STRIP_WIDTH / 2
    return (
        f'<svg width="{STRIP_WIDTH}" height="{STRIP_HEIGHT}" role="img" aria-label="{label}">'
        f'<line x1="{zero}" x2="{zero}" y1="0" y2="{STRIP_HEIGHT}" stroke="currentColor" opacity=".4"/>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="{color}" stroke-width="2"/>'
        f'<circle cx="{value:.1f}" cy="{middle}" r="3" fill="{color}"/></svg>'
    )


def _css(style: str) -> str:
    """Return a style of rich, such as "bold green", as CSS."""
    rules = {"bold": "font-weight: bold", "dim": "opacity: .7"}
    words = style.split()
    found = [rules[word] for word in words if word in rules]
    return "; ".join(found + [f"color: {COLORS[word]}" for word in words if word in COLORS])
