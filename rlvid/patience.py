"""A limit on how long what others wrote may take."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rlvid.errors import UserError


@contextmanager
def patience(seconds: float, says: str) -> Iterator[None]:
    """UserError, with what `says`, where the inside takes longer; 0 waits for ever.

    Code that neither returns to Python nor waits for the system cannot be stopped so, nor can a thread that is not the
    main one.
    """
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise UserError(says)

    before, start = signal.signal(signal.SIGALRM, over), time.monotonic()
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        spent = time.monotonic() - start
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, max(left - spent, 0.001) if left else 0)  # an alarm set outside goes on
