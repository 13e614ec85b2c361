"""Write, download and check benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlvid.api.arguments import as_list
from rlvid.errors import UserError


def write_kitchen(folder: str | Path, seed: int = 0) -> None:
    """Write the embedded benchmark, whose clips are drawn, in the layout of SEED-Bench-R1; the seed is 0 or more."""
    from rlvid.data import kitchen

    _check_seed(seed)
    kitchen.write(Path(folder), seed)


def write_kitchen_long(folder: str | Path, seed: int = 0) -> None:
    """Write the embedded transfer benchmark, of longer films, in the layout of LongVideoBench; seeds are 0 or more."""
    from rlvid.data import kitchen_long

    _check_seed(seed)
    kitchen_long.write(Path(folder), seed)


def download_data(name: str, folder: str | Path) -> None:
    """Download a published benchmark from the hub; its licence is printed first. Resumable.

    Args:
        name: such as "seed_bench_r1", "vsi_bench" or "video_mme"; `rlvid data get --help` lists all.
        folder: where to.
    """
    from rlvid.data.hub import download

    download(name, Path(folder))


def check_data(name: str | Path, against: str | Sequence[str] = ()) -> int:
    """Read all records of a benchmark, decode all of its media, and print what is wrong.

    Args:
        name: a folder, a TOML file, or an embedded benchmark, see `rlvid list benchmarks`.
        against: other benchmarks, for evaluation, that are searched for the training questions and clips of this one.

    Returns:
        The number of problems.
    """
    from rlvid.data.check import check_benchmark

    return check_benchmark(str(name), against=as_list(against))


def write_pairs(run: str | Path, file: str | Path) -> int:
    """Write the best and the worst completion of each group of a run's samples as JSON lines, for offline DPO.

    Args:
        run: a run folder.
        file: the JSONL file to write.

    Returns:
        The number of pairs.
    """
    from rlvid.data.preferences import write_pairs_of_run

    return write_pairs_of_run(Path(run), Path(file))


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UserError(f"--seed {seed}: give a whole number, 0 or more")
