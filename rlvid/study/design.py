"""The design of a grid: what it varies, under which seeds, against what, and which comparisons were planned."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from rlvid.study.runs import Study

APART = " · "


def design(study: Study) -> Table:
    """Axes and their levels, arms beside them, seeds, where all are asked, the comparisons; as grid.json has them."""
    table = Table("design", "", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for name, value in rows(study):
        table.add_row(Text(name), Text(value))
    return table


def rows(study: Study) -> Iterable[tuple[str, str]]:
    """What the design is, as names and values."""
    axes: dict[str, dict[str, None]] = {}
    for result in study.results:
        for axis, level in result.levels.items():
            axes.setdefault(axis, {})[level] = None
    for axis, levels in axes.items():
        yield f"axis: {axis}", APART.join(levels)
    if arms := dict.fromkeys(result.arm for result in study.results if not result.levels):
        yield "further arms" if axes else "arms", APART.join(arms)
    yield "control", study.control
    yield "seeds", APART.join(_seeds(study))
    if study.levels:
        yield "asked", APART.join(f"{level}: {len(questions)}" for level, questions in study.levels.items())
    for a in dict.fromkeys(a for a, _ in study.comparisons):
        yield f"planned: {a}", "against " + APART.join(b for other, b in study.comparisons if other == a)


def _seeds(study: Study) -> Iterable[str]:
    """The seeds that most arms have, and the arms that have others."""
    seeds: dict[str, list[int]] = {}
    for result in study.results:
        seeds.setdefault(result.arm, []).append(result.seed)
    usual = max(seeds.values(), key=len)
    yield " ".join(map(str, usual))
    for arm, own in seeds.items():
        if own != usual:
            yield f"{arm}: {' '.join(map(str, own))}"
