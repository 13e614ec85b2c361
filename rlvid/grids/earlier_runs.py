"""Runs that a grid's folder holds from earlier starts: those that its cells are, and those of other settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rlvid.config import Config, load
from rlvid.grids.cell import Cell
from rlvid.study.runs import Row, Run
from rlvid.trainer.same_run import differing_settings, holds_results, is_same_run
from rlvid.utils.files import read_json

NAMED_FILE = "a file that the config names has changed"  # such as a benchmark's: no setting differs, but the run does


def take_up_runs(cells: Sequence[Cell], out: Path) -> list[Cell]:
    """Return cells with the folder and the id of their runs in a grid's folder, as far as there are any.

    The name of a run folder ends with digits of the id under which the run was started. Another version of rlvid, or
    settings that change no result, may have given the same run another name; see `is_same_run`. Of several folders with
    the same run a finished one is taken, else the one with the most steps.
    """
    found: dict[str, tuple[str, str]] = {}  # id of a config -> folder and id of its run
    for cell in cells:
        if cell.id not in found:
            found[cell.id] = _find_run(cell, out)
    return [replace(cell, folder=found[cell.id][0], id=found[cell.id][1]) for cell in cells]


def unused_runs_note(cells: Sequence[Cell], out: Path) -> str:
    """Return a line about finished runs of the same arms and seeds with other settings, beside cells to run; or "".

    Args:
        cells: what is to be run, from `take_up_runs`.
        out: the folder of the grid.
    """
    counts: dict[str, int] = {}  # in what they differ -> number of runs
    arms: dict[str, dict[str, None]] = {}  # in what they differ -> arms
    for cell in {cell.id: cell for cell in cells}.values():
        if Run(cell.arm, cell.seed, out / cell.folder, cell.id).done:
            continue
        others = [folder for folder, status in _earlier(cell, out) if status["state"] == "done"]
        for folder in (other for other in others if other.name != cell.folder):
            differs = differing_settings(folder, _config(cell).to_toml()).strip(" ()") or NAMED_FILE
            counts[differs] = counts.get(differs, 0) + 1
            arms.setdefault(differs, {})[cell.arm] = None
    if not counts:
        return ""
    words = [
        f"{count} finished run{'s' if count > 1 else ''} of {', '.join(map(repr, arms[differs]))} with other settings "
        f"({differs})"
        for differs, count in counts.items()
    ]
    return f"{'; '.join(words)}: kept in {out} but not used; new runs are made"


def _find_run(cell: Cell, out: Path) -> tuple[str, str]:
    """Return folder and id of a cell's run: those of a run that exists, or else those that a new one gets."""
    candidates = [
        (status["state"] == "done", status.get("step", 0), folder.name == cell.folder, folder.name, status["id"])
        for folder, status in _earlier(cell, out)
        if status["id"] == cell.id or (holds_results(folder) and is_same_run(folder, _config(cell), status["id"]))
    ]
    return max(candidates)[-2:] if candidates else (cell.folder, cell.id)


def _earlier(cell: Cell, out: Path) -> Iterator[tuple[Path, Row]]:
    """Yield folder and status of each run of a cell's arm and seed, under whatever id it was started."""
    stem = cell.folder.rpartition("-")[0]
    for path in sorted(out.glob(f"{stem}-????????/status.json")):
        if status := read_json(path):
            yield path.parent, status


def _config(cell: Cell) -> Config:
    return load(cell.preset, cell.overrides)
