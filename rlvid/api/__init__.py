"""The commands as functions, for notebooks and for the command line.

Heavy modules are imported inside the functions, so that importing this package takes no torch.
"""

from rlvid.api.benchmarks import BENCHES, measure_gpu, measure_speed
from rlvid.api.data import check_data, download_data, write_kitchen, write_kitchen_long, write_pairs
from rlvid.api.experiments import grid, tune
from rlvid.api.listing import list_names
from rlvid.api.parity_table import parity
from rlvid.api.probing import probe
from rlvid.api.runs import (
    check_config,
    estimate_memory,
    evaluate,
    evaluation_folder,
    export,
    export_lmms_eval_task,
    run_folder,
    train,
)
from rlvid.api.studies import attention, audit, compare, credit, replies, report, watch

__all__ = [
    "BENCHES",
    "attention",
    "audit",
    "check_config",
    "check_data",
    "compare",
    "credit",
    "download_data",
    "estimate_memory",
    "evaluate",
    "evaluation_folder",
    "export",
    "export_lmms_eval_task",
    "grid",
    "list_names",
    "measure_gpu",
    "measure_speed",
    "parity",
    "probe",
    "replies",
    "report",
    "run_folder",
    "train",
    "tune",
    "watch",
    "write_kitchen",
    "write_kitchen_long",
    "write_pairs",
]
