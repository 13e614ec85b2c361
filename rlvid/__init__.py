"""rlvid: try out reward models and RL algorithms for video reasoning, on the SEED-Bench-R1 benchmark.

Each verb of the command line is a function here too: `from rlvid import train, evaluate, grid, report, cases`.
"""

from typing import Any

__all__ = ["attend", "audit", "cases", "evaluate", "export", "grid", "report", "train", "watch"]


def __getattr__(name: str) -> Any:
    """Import a verb when it is first used: none of them makes the others wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module 'rlvid' has no attribute {name!r}")
    from rlvid import api

    return getattr(api, name)
