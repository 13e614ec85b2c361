"""A limit on how long what others wrote may take."""

from __future__ import annotations

import faulthandler
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rlvid.errors import UserError


class RewardTimeout(BaseException):
    """Time is up; no `except Exception` inside holds it back."""


@contextmanager
def time_limit(seconds: float, says: str) -> Iterator[None]:
    """UserError, with what `says`, where the inside takes longer; 0 waits for ever.

    Code that does not return to Python cannot be told: after twice the time the process ends, saying where it stood. A
    thread that is not the main one is waited for.
    """
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise RewardTimeout

    before, start = signal.signal(signal.SIGALRM, over), time.monotonic()
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(2 * seconds + 1, exit=True, file=2)
    try:
        yield
    except RewardTimeout:
        raise UserError(says) from None
    finally:
        spent = time.monotonic() - start
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, max(left - spent, 0.001) if left else 0)  # an alarm set outside goes on
