"""The design of a grid: what it varies, with which seeds, against what, and which comparisons are planned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rlvid.study.study import Study

SEPARATOR = " · "


@dataclass(frozen=True)
class DesignRow:
    """One line of the design."""

    name: str
    value: str


def design_rows(study: Study) -> list[DesignRow]:
    """Return the axes with their levels, the other arms, the control, seeds, questions and what is compared."""
    rows = []
    axes: dict[str, dict[str, None]] = {}  # axis -> its levels in order
    for run in study.runs:
        for axis, level in run.axis_levels.items():
            axes.setdefault(axis, {})[level] = None
    rows += [DesignRow(f"axis: {axis}", SEPARATOR.join(levels)) for axis, levels in axes.items()]
    if arms := dict.fromkeys(run.arm for run in study.runs if not run.axis_levels):
        rows.append(DesignRow("further arms" if axes else "arms", SEPARATOR.join(arms)))
    rows.append(DesignRow("control", study.control))
    rows.append(DesignRow("seeds", SEPARATOR.join(_seeds(study))))
    if study.tuning:
        rows.append(DesignRow("settings", study.tuning))
    if study.levels:
        questions = [f"{level}: {len(ids)}" for level, ids in study.levels.items()]
        rows.append(DesignRow("questions", SEPARATOR.join(questions)))
    for arm in dict.fromkeys(arm for arm, _ in study.comparisons):
        others = [other for a, other in study.comparisons if a == arm]
        rows.append(DesignRow(f"compared: {arm}", "with " + SEPARATOR.join(others)))
    for a, a_changed, b, b_changed in study.interactions:
        rows.append(DesignRow("interaction", f"{a} to {a_changed}, against {b} to {b_changed}"))
    return rows


def _seeds(study: Study) -> Iterator[str]:
    """Yield the longest list of seeds of an arm, then each arm that has other seeds."""
    seeds: dict[str, list[int]] = {}
    for run in study.runs:
        seeds.setdefault(run.arm, []).append(run.seed)
    usual = max(seeds.values(), key=len)
    yield " ".join(map(str, usual))
    for arm, others in seeds.items():
        if others != usual:
            yield f"{arm}: {' '.join(map(str, others))}"
