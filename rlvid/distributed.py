"""Several processes as one run: start them, agree, wait for each other, and end together.

`accelerate launch` starts the processes. They communicate over gloo without a GPU and over NCCL on GPUs.
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
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, gather_object
from torch.distributed import DistError
from transformers.integrations import unset_hf_deepspeed_config

from rlvid.errors import UserError
from rlvid.registry import suggest

STALE_LOCK_SECONDS = 600  # building DeepSpeed's kernels takes a minute or two; an older lock was left by a killed build


def make_accelerator(
    folder: Path, report_to: Sequence[str] = (), ddp_timeout: int = 1800, max_grad_norm: float = 1.0
) -> Accelerator:
    """The Accelerator of this launch: one process, data-parallel processes, or DeepSpeed's ZeRO stages.

    DeepSpeed steps the optimizer and clips gradients by itself.

    Args:
        folder: where trackers keep their files.
        report_to: names of trackers, as accelerate knows them.
        ddp_timeout: seconds that a process waits for the others.
        max_grad_norm: handed to DeepSpeed, which clips gradients by itself; 0 does not clip.

    Raises:
        UserError: if a tracker is not installed, or if not all processes arrive within `ddp_timeout`.
    """
    timeout = timedelta(seconds=ddp_timeout)
    if uses_deepspeed():
        remove_stale_build_locks()
    if uses_deepspeed() and not torch.cuda.is_available():
        skip_inference_kernel()
        process_group = InitProcessGroupKwargs(timeout=timeout, backend="gloo")  # else accelerate counts one process
    else:
        process_group = InitProcessGroupKwargs(timeout=timeout)
    trackers = resolve_trackers(report_to)
    try:
        accelerator = Accelerator(log_with=trackers, project_dir=folder, kwargs_handlers=[process_group])
    except RuntimeError as error:
        if is_peer_failure(error):
            raise missing_ranks_error(ddp_timeout) from error
        raise
    if uses_deepspeed():
        accelerator.deepspeed_plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": 1,  # DeepSpeed requires a number; nothing here depends on it
            "gradient_clipping": max_grad_norm,
        }
        unset_hf_deepspeed_config()  # else transformers loads models in shards, which cannot be copied or restored
    return accelerator


def resolve_trackers(report_to: Sequence[str]) -> list[str] | None:
    """The trackers of `report_to` for accelerate, None for none; raise UserError for one that is not installed."""
    installed = [tracker.value for tracker in get_available_trackers()]
    for name in report_to:
        if name not in installed:
            raise UserError(f"report_to: no tracker {name!r} is installed here.{suggest(name, installed)}")
    return list(report_to) or None


def uses_deepspeed() -> bool:
    """Whether accelerate was launched with DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"


def uses_zero3() -> bool:
    """Whether this process is one of a launch with DeepSpeed's ZeRO-3."""
    return (
        uses_deepspeed() and torch.distributed.is_initialized() and AcceleratorState().deepspeed_plugin.zero_stage == 3
    )


def holds_weights() -> bool:
    """Whether this process reads weights from files. Under ZeRO-3 the main process does, and sends shards of them."""
    return not uses_zero3() or torch.distributed.get_rank() == 0


def missing_ranks_error(ddp_timeout: int) -> UserError:
    """The error to raise where the other processes did not start in time."""
    rank, count, address = (os.environ.get(name, "?") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))
    return UserError(
        f"process {rank} of {count} waited train.ddp_timeout = {ddp_timeout} s for {count} processes to start at "
        f"{address}:{os.environ.get('MASTER_PORT', '?')}, and some did not: check the logs of the missing ranks"
    )


def skip_inference_kernel() -> None:
    """Keep DeepSpeed from compiling its all-reduce through shared memory, which takes a minute of CPU time.

    Only `inference_all_reduce` calls it, for tensor parallelism on CPUs. No training does.
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def remove_stale_build_locks() -> None:
    """Remove locks left by killed builds of DeepSpeed's kernels; torch would wait for them forever without a message.

    A lock younger than `STALE_LOCK_SECONDS` may belong to a build in progress: it is kept, and named on stderr.
    """
    from torch.utils.cpp_extension import get_default_build_root

    for lock in Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()).glob("**/lock"):
        with suppress(FileNotFoundError):  # the build has just ended
            if time.time() - lock.stat().st_mtime > STALE_LOCK_SECONDS:
                lock.unlink()
            else:
                print(f"rlvid: waiting for the build that holds {lock}; remove it if no build is running",
                      file=sys.stderr)  # fmt: skip


class SigtermHandler:
    """A context manager that turns SIGTERM into an orderly end.

    While `graceful` is set, the first SIGTERM only sets `received`, and the loop ends the run after the current step.
    Before that, or at the second SIGTERM, KeyboardInterrupt is raised at once. Schedulers send SIGTERM before they kill
    a job, and `accelerate launch` sends it to all other processes when one has died.
    """

    def __init__(self) -> None:
        self.graceful = self.received = False

    def __enter__(self) -> SigtermHandler:
        if threading.current_thread() is threading.main_thread():  # Python allows signal handlers nowhere else
            self.previous = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received or not self.graceful:
            raise KeyboardInterrupt("SIGTERM")
        self.received = True

    def received_anywhere(self) -> bool:
        """Whether any process has received SIGTERM. A collective: every process must call it."""
        return bool(all_reduce_max(self.received))


def is_peer_failure(error: BaseException | None) -> bool:
    """Whether an error means that another process has died or did not arrive in time.

    Over gloo these are RuntimeErrors that differ from others in their message only. On GPUs, NCCL's watchdog ends the
    process instead.
    """
    messages = ("gloo", "Connection closed by peer", "Timed out waiting")
    return isinstance(error, DistError) or (
        isinstance(error, RuntimeError) and any(message in str(error) for message in messages)
    )


def shard_prompts(sizes: Sequence[float], count: int, rank: int) -> list[int]:
    """The indices of the prompts that process `rank` of `count` takes, in ascending order.

    Prompts are dealt in rounds of `count`, one to each process; in each round the largest goes to the process with the
    least load so far. So all processes have about equally much to do, within every minibatch too.
    """
    load = [0.0] * count
    mine: list[int] = []
    for start in range(0, len(sizes), count):
        by_size = sorted(range(start, min(start + count, len(sizes))), key=lambda i: -sizes[i])
        by_load = sorted(range(count), key=load.__getitem__)
        for index, taker in zip(by_size, by_load, strict=False):
            load[taker] += sizes[index]
            if taker == rank:
                mine.append(index)
    return mine


def all_reduce_max(value: int) -> int:
    """The largest value over all processes. A collective: every process must call it."""
    return max(gather_object([value]))
