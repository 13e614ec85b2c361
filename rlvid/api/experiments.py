"""Run experiments: the grid of a script, and the search for each arm's settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlvid.api.arguments import as_list
from rlvid.errors import UserError
from rlvid.registry import missing_module, module_file
from rlvid.utils.renamed import renamed_hint

if TYPE_CHECKING:
    from rlvid.grids import Grid


def grid(script: str | Path, arguments: str | Sequence[str] = ()) -> int:
    """Run the grid of an experiment script.

    Args:
        script: a Python file that defines GRID, such as experiments/quickstart.py, which comes with rlvid.
        arguments: the command line of the grid, such as ["--jobs", "2"]; one alone may be a string.

    Returns:
        The exit code: 0, 1 if a cell failed, 2 for an error in the input.
    """
    return _read_grid(_shipped(Path(script))).main(as_list(arguments))


def tune(
    script: str | Path,
    preset: str = "",
    jobs: int | None = None,
    out: str | Path | None = None,
    overrides: str | Sequence[str] = (),
) -> int:
    """Try the settings that an experiment script names in `Grid(tune=...)`, and choose on the level "dev" alone.

    What was chosen and tried is written to tuned/NAME-PRESET.toml beside the script. Resumable.

    Args:
        script: a Python file that defines GRID, such as experiments/quickstart.py.
        preset: what the trials start from; default: that of the grid.
        jobs: trials at a time; default: one per GPU, or 1.
        out: the folder of the trials; by default runs/tune-NAME-PRESET.
        overrides: TOML assignments for all trials, such as ["train.max_steps=40"]; one alone may be a string.

    Returns:
        The exit code: 0, or 1 if a trial did not come to an end.
    """
    from rlvid.grids.tune import tune

    return tune(_read_grid(script), Path(script), preset, jobs, Path(out) if out else None, as_list(overrides))


def _shipped(script: Path) -> Path:
    """Return a script's path; where there is no such file, experiments/NAME.py is the one that comes with rlvid."""
    shipped = module_file("experiments").parent / script.name
    return shipped if not script.exists() and script.parent.name == "experiments" and shipped.is_file() else script


def _read_grid(script: str | Path) -> Grid:
    """Run an experiment script and return its GRID. Raises UserError if it cannot be run or has none."""
    import runpy

    if not Path(script).is_file():
        folder = module_file("experiments").parent
        hint = f"did you mean {script}.py?" if Path(f"{script}.py").is_file() else f"shipped ones are in {folder}"
        raise UserError(f"no experiment script {str(script)!r} in {Path.cwd()}; {hint}")
    try:
        names = runpy.run_path(str(script))
    except ModuleNotFoundError as error:
        raise UserError(f"{script}: {missing_module(error)}") from error
    except TypeError as error:
        function, _, keyword = str(error).partition("() got an unexpected keyword argument ")
        if not (hint := renamed_hint("field", keyword.strip("'"))):
            raise
        raise UserError(f"{script}: {function.removesuffix('.__init__')} has no field {keyword}{hint}") from error
    if not callable(getattr(names.get("GRID"), "main", None)):
        found = "this file has none" if "GRID" not in names else f"it is {type(names['GRID']).__name__}"
        raise UserError(f"{script}: an experiment defines GRID = Grid(...), and {found}: see experiments/quickstart.py")
    grid: Grid = names["GRID"]
    return grid
