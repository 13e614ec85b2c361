"""Seconds per phase of a step: what `timing.jsonl` holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class StepTimer:
    """Adds up the seconds that a step spends in each phase.

    ```
    with timer("generate"):
        ...
    ```

    Phases may nest: the seconds of an inner phase are not counted in the outer one. `phase` names the current phase; it
    keeps its value when an error passes through, so that the error can be reported with the phase that it came from.

    A phase ends when the GPU, if there is one, has done its work: kernels run after the calls that launch them.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.phase = "load"

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the seconds spent in the body as seconds of `phase`."""
        start, seconds_before = time.perf_counter(), sum(self.seconds.values())
        outer, self.phase = self.phase, phase
        yield
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.phase = outer
        nested = sum(self.seconds.values()) - seconds_before
        spent = time.perf_counter() - start - nested
        self.seconds[phase] = self.seconds.get(phase, 0.0) + spent

    def reset(self) -> dict[str, float]:
        """Return the seconds of the step so far, and start again from zero."""
        seconds, self.seconds = self.seconds, {}
        return seconds
