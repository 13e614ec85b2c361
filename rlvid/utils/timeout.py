"""Time limit for plug-ins, such as a reward that never returns."""

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
    """The time limit is over. It is no Exception, so that `except Exception` in a plug-in does not catch it."""


@contextmanager
def time_limit(seconds: float, message: str) -> Iterator[None]:
    """Raise UserError(message) if the body takes longer than `seconds`; 0 means no limit.

    SIGALRM interrupts Python code only. If native code does not return to Python, the process prints its stack and
    exits after 2 * `seconds` + 1. There is no limit in a thread other than the main one, which cannot receive signals.
    An alarm that was set before goes on afterwards.
    """
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_timeout(number: int, frame: FrameType | None) -> None:
        raise RewardTimeout

    outer_handler, start = signal.signal(signal.SIGALRM, raise_timeout), time.monotonic()
    outer_seconds, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(2 * seconds + 1, exit=True, file=2)
    try:
        yield
    except RewardTimeout:
        raise UserError(message) from None
    finally:
        elapsed = time.monotonic() - start
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, outer_handler)
        remaining = max(outer_seconds - elapsed, 0.001) if outer_seconds else 0  # 0 would switch the alarm off
        signal.setitimer(signal.ITIMER_REAL, remaining)
