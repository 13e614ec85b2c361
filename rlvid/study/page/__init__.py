"""A folder of runs as one HTML file that needs no network: tables, pictures, where runs look, cases with their clips.

The tables and pictures are those of `rlvid report`. Long texts lie in it compressed, and are unpacked when asked for,
so that ten thousand questions and twenty runs open at once. Everything that a run wrote is escaped.
"""

from __future__ import annotations

import base64
import gzip
import json
from html import escape
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from rlvid.study.page import about, cases, gaze
from rlvid.study.plots import make_figures
from rlvid.study.report import build_report
from rlvid.study.strip import Strip
from rlvid.study.study import read_study
from rlvid.utils.files import write_text

TITLES = {
    "curves": "Curves: each seed thin, their mean thick",
    "checkpoints": "Checkpoints: every level against steps, each seed thin, their mean thick",
    "accuracy": "Accuracy: mean and 95 % interval, a tick for each seed",
    "sweep": "Accuracy against what the grid varies",
    "noise": "Accuracy against what the noise leaves",
    "shares": "What decides the advantages",
}
ROOM = 10_000  # columns: a page's tables scroll
THEMED = {"#000000": "currentColor", "#ebebeb": "var(--line)", "#666666": "var(--soft)"}  # a picture's greys


def save(runs: Path, path: Path) -> Path:
    """Write the page of a folder of runs; returns its path. UserError if there are no runs."""
    study = read_study(runs)
    here = FileSystemLoader(Path(__file__).parent)
    templates = Environment(loader=here, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    figures = make_figures(study) if study.levels else {}
    page = templates.get_template("page.html").render(
        study=study,
        done=sum(result.done for result in study.runs),
        sections=[(title, [_block(part) for part in parts]) for title, parts in build_report(study).sections(ROOM)],
        pictures=[(TITLES[name], svg(figure, name)) for name, figure in figures.items()],
        settings=_block(about.differences(study)),
        common=about.common(study),
        alarms=about.alarms(study),
        environment=about.environment(study),
        data={name: packed(value) for name, value in (cases.gathered(study) | gaze.gathered(study)).items()},
        version=version("rlvid"),
    )
    write_text(path, page)
    return path


def packed(value: Any) -> str:
    """Anything that JSON can say, as text that stands in a page whatever is in it; the script unpacks it."""
    return base64.b64encode(gzip.compress(json.dumps(value).encode(), mtime=0)).decode()


def svg(figure: Figure, name: str) -> str:
    """A picture whose words are text, in the page's own colours."""
    drawn = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    least = 0.7 * figure.get_figwidth() * 96  # pixels, in which its words can still be read
    begin = f'<svg role="img" aria-label="{escape(TITLES[name])}" style="--least: {least:.0f}px"'
    text = drawn.getvalue()
    for colour, themed in THEMED.items():
        text = text.replace(colour, themed)
    return begin + text[text.index("<svg") + 4 :]


def _block(part: Table | Text) -> dict[str, Any]:
    """A table as rows of cells, or words."""
    if isinstance(part, Text):
        return {"words": part.plain, "style": str(part.style)}
    columns = [{**_cell(column.header), "right": column.justify == "right"} for column in part.columns]
    for heading, column in zip(columns, part.columns, strict=True):
        if reach := next((cell.reach for cell in column.cells if isinstance(cell, Strip)), 0.0):
            heading["text"] += f", ±{100 * reach:.1f}"
    rows = [
        {"cells": [_cell(cell) for cell in cells], "style": str(row.style or ""), "end": row.end_section}
        for row, cells in zip(part.rows, zip(*(column.cells for column in part.columns), strict=True), strict=True)
    ]
    return {"title": part.title or "", "columns": columns, "rows": rows}


def _cell(value: Any) -> dict[str, Any]:
    """A cell's text and style; a strip as the three places of its interval on a line from 0 to 100."""
    if isinstance(value, Strip):
        i = value.interval
        low, middle, high = (50 + 50 * x / value.reach for x in (i.low, i.value, i.high))
        says = "{:+.1f} points, 95 % interval {:+.1f} to {:+.1f}".format(*(100 * x for x in (i.value, i.low, i.high)))
        return {"text": "", "style": value.color, "strip": (low, middle, high), "says": says}
    text = value if isinstance(value, Text) else Text.from_markup(str(value))
    return {"text": text.plain, "style": str(text.style)}
