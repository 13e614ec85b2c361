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


def _raise_timeout(number: int, frame: FrameType | None) -> None:
    raise RewardTimeout


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

    outer_handler, start = signal.signal(signal.SIGALRM, _raise_timeout), time.monotonic()
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


@contextmanager
def time_limit_paused() -> Iterator[None]:
    """Stop the clock of the `time_limit` around it while the body runs, which needs a limit of its own.

    Afterwards as much time is left as before. Without a time limit, and outside the main thread, it does nothing.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGALRM) is not _raise_timeout:
        yield
        return
    remaining, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, remaining)
        faulthandler.dump_traceback_later(2 * remaining + 1, exit=True, file=2)
