"""Several processes as one run: how they find each other, agree, wait, and end together.

`accelerate launch` starts them. Without a GPU they talk over gloo; on GPUs over NCCL.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import FrameType

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, gather_object
from torch.distributed import DistError
from transformers.integrations import unset_hf_deepspeed_config

from rlvid.config import Config
from rlvid.errors import UserError
from rlvid.policy.optimizer import resolve_trackers

BUILD_SECONDS = 600  # seconds that a build of DeepSpeed's kernels takes at most


def make_accelerator(config: Config, folder: Path) -> Accelerator:
    """What accelerate was launched as: one process, data-parallel ones, or DeepSpeed's ZeRO stages.

    An unsharded model's buffers are not broadcast, so that scoring needs no word between processes. DeepSpeed steps
    the optimiser by itself, on gradients that it clips by itself.
    """
    if uses_deepspeed():
        remove_stale_build_locks()
    over = (
        {"backend": "gloo"} if uses_deepspeed() and not torch.cuda.is_available() else {}
    )  # or accelerate counts 1 process
    waiting = InitProcessGroupKwargs(timeout=timedelta(seconds=config.train.ddp_timeout), **over)
    plain = DistributedDataParallelKwargs(broadcast_buffers=False)
    try:
        found = Accelerator(log_with=resolve_trackers(config), project_dir=folder, kwargs_handlers=[plain, waiting])
    except RuntimeError as error:
        if is_peer_failure(error):
            raise missing_ranks_error(config) from error
        raise
    if uses_deepspeed():
        found.deepspeed_plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": 1,  # it asks for a number, and nothing depends on it
            "gradient_clipping": config.train.max_grad_norm,
        }
        unset_hf_deepspeed_config()  # or transformers loads models in shards, which cannot be copied or restored
    return found


def uses_deepspeed() -> bool:
    """Whether accelerate was launched with DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"


def missing_ranks_error(config: Config) -> UserError:
    """Not all processes have come to begin with."""
    rank, count, meeting = (os.environ.get(name, "?") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))
    return UserError(
        f"process {rank} of {count} waited train.ddp_timeout = {config.train.ddp_timeout} s for {count} processes to "
        f"begin at {meeting}:{os.environ.get('MASTER_PORT', '?')}, and they have not all come: start each, and look at "
        "what those say that do not"
    )


def remove_stale_build_locks() -> None:
    """Remove the locks of kernels' builds that were killed, for which torch would wait for ever without a word.

    A build takes a minute or two: a lock that is younger than ten is somebody's, and is named.
    """
    from torch.utils.cpp_extension import get_default_build_root

    for lock in Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()).glob("**/lock"):
        with suppress(FileNotFoundError):  # it has just been let go
            if time.time() - lock.stat().st_mtime > BUILD_SECONDS:
                lock.unlink()
            else:
                print(f"rlvid: waits for the build of {lock}; if none is under way, remove it", file=sys.stderr)


class SigtermHandler:
    """SIGTERM asks the run to end: after its step, once it is `patient`; before that, and at the second call, at once.

    Schedulers send it before they kill, and `accelerate launch` to all other processes when one has died.
    """

    def __init__(self) -> None:
        self.graceful = self.received = False

    def __enter__(self) -> SigtermHandler:
        if threading.current_thread() is threading.main_thread():  # Python lets no other one do it
            self.before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.received or not self.graceful:
            raise KeyboardInterrupt("SIGTERM")
        self.received = True

    def received_anywhere(self) -> bool:
        """Whether some process was asked; all get the same answer."""
        return bool(all_reduce_max(self.received))


def is_peer_failure(error: BaseException | None) -> bool:
    """Whether this is what a process gets to see when another one has died, or did not come in time.

    Over gloo these are RuntimeErrors that only their words tell from others. On GPUs NCCL's watchdog ends the process.
    """
    words = ("gloo", "Connection closed by peer", "Timed out waiting")
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def shard_prompts(sizes: Sequence[float], count: int, rank: int) -> list[int]:
    """Which of a step's prompts the process `rank` of `count` takes, in order.

    Of every `count` prompts in a row each process gets one, the largest going to who has least so far: so all have
    about as much to do, in each minibatch, too.
    """
    load, mine = [0.0] * count, list[int]()
    for start in range(0, len(sizes), count):
        row = sorted(range(start, min(start + count, len(sizes))), key=lambda i: -sizes[i])
        for place, taker in zip(row, sorted(range(count), key=load.__getitem__), strict=False):
            load[taker] += sizes[place]
            mine += [place] if taker == rank else []
    return mine


def all_reduce_max(count: int) -> int:
    """The largest of all processes' counts."""
    return max(gather_object([count]))
