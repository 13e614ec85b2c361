"""As much at a time as memory has room for: halved, for good, when it turns out to be too much."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from rlvid.errors import UserError

T = TypeVar("T")


class OOMBackoff:
    """How much of something goes through a model at a time."""

    def __init__(self, what: str, size: int = sys.maxsize) -> None:
        self.what, self.size = what, size

    def fit(
        self,
        work: Callable[[int], T],
        most: int,
        least: int = 1,
        undo: Callable[[], None] = lambda: None,
        again: Callable[[bool], bool] = bool,
    ) -> T:
        """What `work` returns for a size of at most `most`; where memory runs out, `undo`, and again with half of it.

        `again` is told whether it ran out, and says whether all is to be done again: processes that work together ask
        each other. UserError where less than `least` would be left.
        """
        while True:
            size, short = min(self.size, most), ""
            try:
                found = work(size)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                short = str(error).splitlines()[0]
            if short:
                clear_device_cache(garbage_collection=True)
            if not again(bool(short)):
                return found
            undo()
            if short and size // 2 < least:
                raise UserError(f"out of memory with {size} {self.what} at a time: {short}. {ADVICE}")
            if short:
                self.size = size // 2
                print(f"rlvid: out of memory; from now on {self.size} {self.what} at a time", file=sys.stderr)


ADVICE = (
    "Try train.gradient_checkpointing=true, train.lora_r=16, a smaller train.max_tokens_per_forward, "
    "train.num_generations or video.max_frames"
)
