"""The commands as functions, for notebooks and for the command line.

Heavy modules are imported inside the functions, so that importing this package takes no torch.
"""

from rlvid.api.benchmarks import BENCHES, bench
from rlvid.api.parity_table import parity
from rlvid.api.runs import check_config, estimate_memory, evaluate, export, train
from rlvid.api.studies import attention, audit, compare, grid, report, tune, watch

__all__ = [
    "BENCHES",
    "attention",
    "audit",
    "bench",
    "check_config",
    "compare",
    "estimate_memory",
    "evaluate",
    "export",
    "grid",
    "parity",
    "report",
    "train",
    "tune",
    "watch",
]
