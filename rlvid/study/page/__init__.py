"""The report as one HTML page: tables, figures, attention maps, and all questions with their answers and clips.

The page is one file that works without a network. Its tables and figures are those of `rlvid report`. Long texts are
stored compressed and are unpacked when they are shown, so that a page with 10,000 questions and 20 runs opens in less
than two seconds (tests/study/test_page.py). Everything that a run wrote is escaped.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from rlvid.study.page import run_details
from rlvid.study.page.attention import attention_data
from rlvid.study.page.blocks import ALL_LEVELS, is_long, to_block
from rlvid.study.page.cases import case_data
from rlvid.study.plots import make_page_figures
from rlvid.study.report import Report, build_report
from rlvid.study.study import Study, read_study
from rlvid.utils.files import write_text

FIGURE_TITLES = {
    "curves": "Learning curves: thin lines are seeds, thick lines their mean",
    "checkpoints": "Accuracy of each level during training: thin lines are seeds, thick lines their mean",
    "accuracy": "Accuracy: mean and 95 % interval; each tick is a seed",
    "tradeoff": "The endpoint against accuracy: large marks are arms, faint ones seeds, dashed lines the control",
    "sweep": "Accuracy against the settings that the grid varies",
    "successes": "How many runs succeed, and where each run ends: dots are runs, the dotted line is the threshold",
    "noise": "Accuracy under noise, against Youden's J",
    "shares": "How far the advantages move without each reward",
}
FIRST = ("Changes of the plan", "Controls", "Comparisons", "Accuracy")  # sections that come first and are never folded
SETTINGS = "In which settings arms differ"  # the section of a report that stands above all others on the page
UNLIMITED_WIDTH = 10_000  # columns of a report; wide tables scroll on the page
CSS_PIXELS_PER_INCH = 96
MIN_FIGURE_SCALE = 0.7  # a figure is never drawn smaller, so that its text can be read
GZIP_LEVEL = 6  # 10,000 questions, 20 runs: 1.6 s; level 9 takes 18.5 s and saves 6 %
# Colors in matplotlib's SVG -> variables of page.css, which follow the light or dark theme.
THEME_COLORS = {"#000000": "currentColor", "#ebebeb": "var(--line)", "#666666": "var(--soft)"}


def save_page(runs: Path | Study, path: Path) -> Path:
    """Write the page of a folder of runs; returns its path.

    Args:
        runs: a grid's folder, or one with run folders; or what was read from it.
        path: the HTML file to write.

    Raises:
        UserError: there are no runs.
    """
    study = runs if isinstance(runs, Study) else read_study(runs)
    report = build_report(study)
    sections = [
        (title, [to_block(part) for part in parts])
        for title, parts in sorted(report.sections(UNLIMITED_WIDTH), key=lambda section: _order(section[0]))
        if title != SETTINGS
    ]
    figures = make_page_figures(study) if study.levels else {}
    data = case_data(study) | attention_data(study)
    loader = FileSystemLoader(Path(__file__).parent)
    templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = templates.get_template("page.html").render(
        study=study,
        done=sum(run.done for run in study.runs),
        protocol=report.protocol,
        verdicts=_count_verdicts(report),
        sections=[(title, blocks, title not in FIRST and is_long(blocks)) for title, blocks in sections],
        figures=[
            (FIGURE_TITLES[name], f"{_css_width(panels[0]):.0f}", _panels_to_svg(panels, name))
            for name, panels in figures.items()
        ],
        settings=run_details.settings(study, report),
        common_settings=run_details.common_settings(study),
        alarms=run_details.alarms(study),
        environment=run_details.environment(study),
        data={name: pack(part) for name, part in data.items()},
        version=version("rlvid"),
    )
    write_text(path, page)
    return path


def pack(value: Any) -> str:
    """Return a JSON value as compressed base64 text, which is safe inside HTML; `unpack` in page.js reads it."""
    return base64.b64encode(gzip.compress(json.dumps(value).encode(), GZIP_LEVEL, mtime=0)).decode()


def _order(title: str) -> int:
    """First whether the rest can be read, then what was compared, then accuracies; the design comes last."""
    return {**{name: place for place, name in enumerate(FIRST)}, "Design": 9}.get(title, 5)


def _count_verdicts(report: Report) -> str:
    """Return how often each verdict was reached on all levels together, such as "1 better, 2 undecided"."""
    counts = Counter(row.verdict for row in report.comparisons if row.condition.startswith(ALL_LEVELS))
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def _panels_to_svg(panels: Sequence[Figure], name: str) -> list[str]:
    titles = [panel.axes[0].get_title() if panel.axes else "legend" for panel in panels]
    return [to_svg(panel, f"{name}-{i}", titles[i] or FIGURE_TITLES[name]) for i, panel in enumerate(panels)]


def _css_width(figure: Figure) -> float:
    return figure.get_figwidth() * CSS_PIXELS_PER_INCH


def to_svg(figure: Figure, name: str, title: str) -> str:
    """Return a figure as an SVG element with text as text, in the colors of the page's theme.

    Args:
        figure: a figure.
        name: of the figure; ids inside of the SVG differ between names.
        title: for readers who do not see it.
    """
    file = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    for color, theme_color in THEME_COLORS.items():
        svg = svg.replace(color, theme_color)
    after_tag_name = svg[svg.index("<svg") + len("<svg") :]
    min_width = MIN_FIGURE_SCALE * _css_width(figure)
    return f'<svg role="img" aria-label="{escape(title)}" style="--min-width: {min_width:.0f}px"{after_tag_name}'
