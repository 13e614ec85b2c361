"""Check that a grid's definition fits together, and that its models are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlvid.config import config_keys, load, quote_key
from rlvid.errors import UserError
from rlvid.grids.cell import Arm, Cell
from rlvid.registry import model_path, suggest
from rlvid.study.comparison import planned_contrasts
from rlvid.study.contrasts import interaction

if TYPE_CHECKING:
    from rlvid.grids.grid import Grid


def check_models(cells: Sequence[Cell]) -> None:
    """Raise UserError for cells that cannot run or could not be compared, before any of them is started.

    Those are cells with a model that should come with rlvid, or be in a folder here, and is not, and cells under
    different protocols.
    """
    configs = [load(cell.preset, cell.overrides) for cell in cells]
    for model in dict.fromkeys(config.model for config in configs):
        model_path(model)
        if model.startswith(("runs/", "./", "../", "/")) and not Path(model).is_dir():
            raise UserError(
                f"model {model!r}: no such folder in {Path.cwd()}; the head of the grid's file may say how it is made"
            )
    if len(protocols := list(dict.fromkeys(config.eval.protocol for config in configs))) > 1:
        raise UserError(
            f"eval.protocol: cells of one grid are evaluated under {' and '.join(protocols)}: their figures could "
            "not be compared; set one for all"
        )


def check_untrained(grid: Grid, cells: Sequence[Cell]) -> None:
    """Raise UserError for an arm that takes no step and is not `unseeded`.

    Its runs would be the same under all seeds, and make the scatter of the other arms look small.
    """
    for cell in cells:
        if cell.steps or cell.arm in grid.unseeded:
            continue
        if not load(cell.preset, cell.overrides).cold_start.max_steps:
            raise UserError(
                f"grid {grid.name!r}: arm {cell.arm!r} takes no training step, so that it depends on no seed: add it "
                "to unseeded="
            )


def check_endpoint(grid: Grid, cells: Sequence[Cell]) -> None:
    """Raise UserError if a cell does not measure the grid's endpoint: its runs could not be compared."""
    if grid.endpoint == "accuracy":
        return
    for cell in cells:
        config = load(cell.preset, cell.overrides)
        if grid.endpoint not in {reward.name for reward in (*config.rewards, *config.eval.rewards)}:
            raise UserError(
                f"grid {grid.name!r}: arm {cell.arm!r} does not measure the endpoint {grid.endpoint!r}: "
                f"settings={{{f'eval.rewards.{quote_key(grid.endpoint)}'!r}: 1.0}} lets all arms do so"
            )


def check_neutral(grid: Grid, cells: Sequence[Cell]) -> None:
    """Raise UserError for two arms that differ in nothing but settings that change no result: they would be one run."""
    first: dict[str, Cell] = {}  # id of a config -> its first cell
    for cell in cells:
        other = first.setdefault(cell.id, cell)
        configs = [load(each.preset, each.overrides) for each in (other, cell)] if other.arm != cell.arm else []
        if len({config.exact_id for config in configs}) < 2:
            continue
        ours, theirs = ({key.name: key.value for key in config_keys(config) if key.neutral} for config in configs)
        keys = [key for key in ours if ours[key] != theirs[key]]
        hint = "; another judge needs another judge.model" if "judge.url" in keys else ""
        raise UserError(
            f"grid {grid.name!r}: arms {other.arm!r} and {cell.arm!r} differ only in {' and '.join(keys)}, which "
            f"changes no result, so that they would be one run: remove one of them{hint}"
        )


def check_types(grid: Grid) -> None:
    """Raise UserError if seeds are no numbers, a list is a text or one pair, or a share or an arm is none."""
    where = f"grid {grid.name!r}"
    if not isinstance(grid.seeds, list | tuple | range) or any(type(seed) is not int for seed in grid.seeds):
        raise UserError(f"{where}: seeds= needs whole numbers, such as (0, 1, 2), not {grid.seeds!r}")
    if isinstance(grid.unseeded, str):
        raise UserError(f"{where}: unseeded= needs a tuple of arms, ({grid.unseeded!r},), not {grid.unseeded!r}")
    for name in ("comparisons", "positive_controls", "negative_controls"):
        if any(isinstance(pair, str) for pair in getattr(grid, name)):
            raise UserError(
                f"{where}: {name}= needs pairs, (({grid.control!r}, 'other arm'),), not {getattr(grid, name)!r}"
            )
    for name in ("equivalence_margin", "effect_at_stake"):
        share = getattr(grid, name)
        if not isinstance(share, int | float) or not 0 <= share < 1:
            raise UserError(f"{where}: {name} must be a share such as 0.03, not {share!r}")
    threshold = grid.success_threshold
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise UserError(f"{where}: success_threshold must be a number such as 0.36, not {threshold!r}")
    for name, settings in grid.arms.items():
        if not isinstance(settings, Mapping):
            raise UserError(f"{where}: arm {name!r} needs a dictionary of settings, not {settings!r}")


def check_grid(grid: Grid, arms: Mapping[str, Arm]) -> None:
    """Raise UserError for equal seeds or names of contrasts, an unknown arm, a control not compared, a wrong type."""
    where = f"grid {grid.name!r}"
    check_types(grid)
    if not grid.seeds:
        raise UserError(f"{where}: seeds= is empty: name one seed or more, such as (0, 1, 2)")
    if len(set(grid.seeds)) < len(grid.seeds):
        raise UserError(f"{where}: seeds= needs different numbers, not {grid.seeds!r}: a seed twice is one run")
    if same := next((pair for pair in grid.comparisons if len(set(pair)) != 2 or len(pair) != 2), None):
        raise UserError(f"{where}: a comparison is (arm, other arm), two different ones, not {same!r}")
    for named in grid.interactions:
        if len(named) != 4 or not any(interaction(*named).values()):
            raise UserError(
                f"{where}: an interaction is (arm, arm changed, other, other changed), of which one change differs "
                f"from the other, not {named!r}"
            )
    if grid.effect_order and (len(grid.effect_order) < 3 or any(len(named) != 4 for named in grid.effect_order)):
        raise UserError(f"{where}: effect_order needs three or more of (arm, other, arm elsewhere, other elsewhere)")
    compared = [arm for names in (*grid.comparisons, *grid.interactions, *grid.effect_order) for arm in names]
    for arm in (grid.control, *grid.unseeded, *compared):
        if arm not in arms:
            raise UserError(f"{where} has no arm {arm!r}.{suggest(arm, arms)}")
    for name in ("positive_controls", "negative_controls"):
        for pair in getattr(grid, name):
            if pair not in grid.pairs(arms):
                raise UserError(f"{where}: {name} names {pair!r}, an (arm, other arm): add it to comparisons=, too")
    try:
        planned_contrasts(grid.pairs(arms), grid.interactions)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
