"""As much at a time as memory has room for: halved, for good, when it turns out to be too much."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from rlvid.errors import UserError

T = TypeVar("T")


class Room:
    """How much of something goes through a model at a time."""

    def __init__(self, what: str, size: int = sys.maxsize) -> None:
        self.what, self.size = what, size

    def fit(self, work: Callable[[int], T], most: int, least: int = 1, undo: Callable[[], None] | None = None) -> T:
        """What `work` returns for a size of at most `most`; where memory runs out, `undo`, and again with half of it.

        What has to be undone is learning, which several processes do together: one alone would lose step, so there it
        is not tried again. UserError then, and where less than `least` would be left.
        """
        while True:
            size = min(self.size, most)
            try:
                return work(size)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                short = str(error).splitlines()[0]
            if undo:
                undo()
            clear_device_cache(garbage_collection=True)
            several = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
            if (undo and several) or size // 2 < least:
                raise UserError(f"out of memory with {size} {self.what} at a time: {short}. {ADVICE}")
            self.size = size // 2
            print(f"rlvid: out of memory; from now on {self.size} {self.what} at a time", file=sys.stderr)


ADVICE = (
    "Try train.gradient_checkpointing=true, train.lora_r=16, a smaller train.tokens_per_forward, "
    "train.num_generations or video.max_frames"
)
