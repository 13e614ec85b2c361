"""Several processes as one run: how they find each other, agree, wait, and end together.

`accelerate launch` starts them. Without a GPU they talk over gloo; on GPUs over NCCL.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, gather_object
from transformers.integrations import unset_hf_deepspeed_config

from rlvid.config import Config
from rlvid.policy.optimiser import trackers


def accelerator(config: Config, folder: Path) -> Accelerator:
    """What accelerate was launched as: one process, data-parallel ones, or DeepSpeed's ZeRO stages.

    An unsharded model's buffers are not broadcast, so that scoring needs no word between processes. DeepSpeed steps
    the optimiser by itself, on gradients that it clips by itself.
    """
    sharded = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    over = {"backend": "gloo"} if sharded and not torch.cuda.is_available() else {}  # or accelerate counts 1 process
    waiting = InitProcessGroupKwargs(timeout=timedelta(seconds=config.train.ddp_timeout), **over)
    plain = DistributedDataParallelKwargs(broadcast_buffers=False)
    found = Accelerator(log_with=trackers(config), project_dir=folder, kwargs_handlers=[plain, waiting])
    if sharded:
        found.deepspeed_plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": 1,  # it asks for a number, and nothing depends on it
            "gradient_clipping": config.train.max_grad_norm,
        }
        unset_hf_deepspeed_config()  # or transformers loads models in shards, which cannot be copied or restored
    return found


def most(count: int) -> int:
    """The largest of all processes' counts."""
    return max(gather_object([count]))
