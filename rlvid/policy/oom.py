"""Halve the batch when memory runs out, and stay at the smaller size."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from rlvid.errors import UserError

ADVICE = (
    "Try train.gradient_checkpointing=true, train.lora_r=16, or a smaller train.max_tokens_per_forward, "
    "train.num_generations or video.max_frames, in a new run with another --out"
)


def find_out_of_memory(error: BaseException) -> RuntimeError | None:
    """Return the out-of-memory error that an error is, or that it arose from; None if there is none.

    An error that ends a recording of a CUDA graph hides the one that came first.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RuntimeError) and should_reduce_batch_size(cause):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


@contextmanager
def advice_if_out_of_memory(doing: str) -> Iterator[None]:
    """Turn an out-of-memory error of the body into a UserError of one line, where no smaller batch would help.

    `doing` says what the body does.
    """
    try:
        yield
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(f"out of memory while {doing}, which no smaller batch helps: {reason}. {ADVICE}") from error


class OOMBackoff:
    """Finds the largest batch that fits in memory by halving.

    ```
    for size in backoff.sizes(limit):
        with backoff.attempt():
            return work(size)
    ```

    If an attempt runs out of memory, its error is suppressed and the next size is half as large. All later calls start
    from the smaller size. Other errors pass through.

    Args:
        unit: what is counted, in messages: "tokens" or "prompts".
        size: the first attempt.

    Attributes:
        failed: whether the last attempt ran out of memory. Ranks that train together agree on it before they leave the
            loop; a rank that succeeded while another failed gets the same size again.
    """

    def __init__(self, unit: str, size: int = sys.maxsize) -> None:
        self.unit, self.size = unit, size
        self.failed = False
        self.reason = ""  # the first line of the last out-of-memory error

    def sizes(self, limit: int, smallest: int = 1) -> Iterator[int]:
        """Yield sizes to attempt, at most `limit`. Raises UserError when a size would be less than `smallest`."""
        while True:
            size = min(self.size, limit)
            yield size
            if not self.failed:
                continue  # another rank ran out of memory: the same size again
            if size // 2 < smallest:
                raise UserError(f"out of memory with {size} {self.unit} at a time: {self.reason}. {ADVICE}")
            self.size = size // 2
            print(f"rlvid: out of memory; from now on {self.size} {self.unit} at a time", file=sys.stderr)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run the body; suppress an out-of-memory error, free the cache and set `failed`."""
        self.failed = False
        try:
            yield
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            self.failed, self.reason = True, str(error).splitlines()[0]
        if self.failed:  # here the traceback, which keeps tensors alive, is gone
            clear_device_cache(garbage_collection=True)
