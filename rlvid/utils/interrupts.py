"""Ctrl-C that arrives while a process is being started is raised after the start."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Handle SIGINT at the end of this context instead of within it.

    Starting a process with a `preexec_fn` forks, and Python calls functions that modules registered for a fork. An
    exception in one of them is printed and lost: a KeyboardInterrupt there would not end the program. Outside the main
    thread, which Python interrupts, and where SIGINT is ignored, this context does nothing.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    received: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if received:
        handler(*received[0])
