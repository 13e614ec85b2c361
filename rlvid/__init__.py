"""rlvid: try out reward models and RL algorithms for video reasoning, on the SEED-Bench-R1 benchmark.

Most commands of the command line are functions here too: `from rlvid import train, evaluate, grid, report`.
"""

from typing import Any

from rlvid.utils.renamed import renamed_hint

__all__ = ["attention", "audit", "compare", "evaluate", "export", "grid", "report", "train", "tune", "watch"]


def __getattr__(name: str) -> Any:
    """Import a function when it is first used, so that `import rlvid` is fast."""
    if name not in __all__:
        raise AttributeError(f"module 'rlvid' has no attribute {name!r}{renamed_hint('command', name)}")
    from rlvid import api

    return getattr(api, name)
