"""Adaptive grids: only arms whose comparisons are still open get more seeds. `rlvid grid EXPERIMENT --until decided`.

After 2, 3, 4, 5, 6 and 8 seeds of every open arm there is a look at all comparisons on all levels (see
`study.sequential`). `adaptive.json` in the grid's folder has the settings, written before the first run, and each look,
so a grid that is killed at any moment continues as it was planned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from rlvid.errors import UserError
from rlvid.grids.cell import Cell
from rlvid.study.compared import endpoint_levels
from rlvid.study.comparison import fit_seed_model, interaction_name, planned_contrasts
from rlvid.study.contrasts import COST_WORDS, SHARE
from rlvid.study.sequential import AdaptiveGrid, Look
from rlvid.study.study import STATE_FILE, Study, read_adaptive, read_study
from rlvid.utils.console import wide_console
from rlvid.utils.files import write_text

Runner = Callable[[Mapping[str, int]], tuple[int, list[Cell]]]  # arm -> seeds; runs them, returns exit code and cells


def run_until_decided(
    out: Path,
    pairs: Sequence[tuple[str, str]],
    arms: Sequence[str],
    unseeded: Sequence[str],
    margin: float,
    max_seeds: int,
    run: Runner,
    interactions: Sequence[tuple[str, str, str, str]] = (),
    plan: Mapping[str, Any] | None = None,
    share: float = SHARE,
) -> int:
    """Run an adaptive grid to its end, or continue one.

    Args:
        out: the grid's folder.
        pairs: the comparisons, (arm, other arm).
        arms: all arms; those in no comparison get as many seeds as the first look.
        unseeded: arms that are run once.
        margin: differences smaller than this count as equivalent; a share.
        max_seeds: no arm gets more.
        run: runs all arms with so many seeds, and waits for them.
        interactions: (arm, arm changed, other, other changed); they are decided like comparisons.
        plan: what else must not change once the grid has begun, as JSON values: "configs" has each arm's first config
            id, so that a changed script, --set or plug-in is noticed.
        share: of the error rate for all levels together; 1 where there is one level. A saved grid keeps its own.

    Returns:
        The exit code: 0, or that of `run` if a cell failed. The same command continues with the same look.

    Raises:
        UserError: if there is nothing to compare, or the folder holds a grid with fixed seeds, or an adaptive one with
            other settings.
    """
    contrasts = planned_contrasts(pairs, interactions)
    if not contrasts:
        raise UserError("--until decided: this grid compares nothing, as it has one arm only; leave the option out")
    state = _begin(out, AdaptiveGrid(contrasts, margin=margin, share=share, max_seeds=max_seeds, plan=plan or {}))
    costs = {interaction_name(*arms) for arms in interactions}
    console = wide_console()
    while (seeds := state.next_seeds()) is not None:
        code, cells = run(_seeds_per_arm(state, arms, unseeded, seeds))
        if code:
            return code
        study = read_study(out)
        model = fit_seed_model(study)
        if model is None:
            raise UserError(f"{out}: no finished run answered any question, so nothing can be compared")
        _check_runs(out, study, state, unseeded, seeds)
        looks = state.look(model, seeds)
        _save(out, state)
        console.print("", open_comparisons_table(looks, seeds, len({cell.id for cell in cells}), costs))
    return 0


def _begin(out: Path, new: AdaptiveGrid) -> AdaptiveGrid:
    """The saved state of the grid in a folder, or that of a new one, which is saved before there is any run."""
    state = read_adaptive(out)
    if state is None:
        if (out / "grid.json").is_file():
            raise UserError(
                f"{out} holds a grid with fixed seeds, which cannot be made adaptive after its results were seen: "
                "give another --out"
            )
        return _save(out, new)
    settings, wanted = ((dict(grid.contrasts), grid.margin, grid.max_seeds) for grid in (state, new))
    if settings != wanted:
        raise UserError(
            f"{out} holds an adaptive grid with other comparisons, --margin or --max-seeds (its margin is "
            f"{100 * (state.margin or 0):g} points, its most seeds {state.max_seeds}): they cannot be changed once "
            "it has begun; give another --out"
        )
    if state.plan and (changed := changed_plan(state.plan, new.plan)):
        raise UserError(
            f"{out} holds an adaptive grid that began with other {changed}: its looks were at other runs; undo the "
            "change, or give another --out"
        )
    return state


def changed_plan(began: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what of an adaptive grid's plan is not as when it began, in words; "" if all is."""
    now = json.loads(json.dumps(now))  # as it is saved: tuples become lists
    words = [key.replace("_", " ") for key in began if key != "configs" and began[key] != now.get(key)]
    configs = now.get("configs", {})
    arms = [arm for arm, id in began.get("configs", {}).items() if configs.get(arm) != id]
    words += [f"settings or plug-ins of {', '.join(map(repr, arms))}"] if arms else []
    return " and ".join(words)


def _check_runs(out: Path, study: Study, state: AdaptiveGrid, unseeded: Sequence[str], seeds: int) -> None:
    """Raise UserError unless every open arm has as many runs that answered all levels as the look claims."""
    levels = endpoint_levels(study)
    for arm in state.open_arms():
        chosen = study.compared.get(arm)
        complete = len(chosen.runs) if chosen and list(chosen.levels) == levels else 0
        planned = 1 if arm in unseeded else seeds
        if complete < planned:
            raise UserError(
                f"{out}: no look after {seeds} seeds: {complete} of {planned} runs of {arm!r} have values of "
                f"{study.endpoint} for all questions of {', '.join(levels)}; rlvid report {out} lists what is left "
                "out: evaluate these runs again, or remove their folders, and start the grid again"
            )


def _save(out: Path, state: AdaptiveGrid) -> AdaptiveGrid:
    """Write the state to the grid's folder and return it."""
    write_text(out / STATE_FILE, json.dumps(state.to_json(), indent=1))
    return state


def _seeds_per_arm(state: AdaptiveGrid, arms: Sequence[str], unseeded: Sequence[str], seeds: int) -> dict[str, int]:
    """Arm -> seeds at the next look: `seeds` for arms with an open comparison; the others keep what they have."""
    still_open, counts = state.open_arms(unseeded), {}
    for arm in arms:
        seen = [c.looks[-1].seeds for c in state.comparisons.values() if arm in c.weights and c.looks]
        counts[arm] = 1 if arm in unseeded else seeds if arm in still_open else max(seen, default=state.schedule()[0])
    return counts


def open_comparisons_table(
    looks: Mapping[str, Look], seeds: int, runs: int, interactions: Collection[str] = ()
) -> Table:
    """The comparisons that were open at a look, and what it says of them; those in `interactions` are about costs."""
    title = f"look after {seeds} seeds ({runs} runs), all levels"
    table = Table(title=title, box=None, padding=(0, 2, 0, 0), title_justify="left")
    table.add_column("comparison", min_width=20, overflow="fold")
    for name in ("points", "repeated interval", "information", "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    for name, look in looks.items():
        ends = "–" if look.low is None or look.high is None else f"{100 * look.low:+.1f} to {100 * look.high:+.1f}"
        verdict = COST_WORDS.get(look.verdict, look.verdict) if name in interactions else look.verdict
        label = Text(name.replace(" | ", " against "))
        table.add_row(label, f"{100 * look.difference:+.1f}", ends, f"{look.t:.0%}", verdict)
    return table
