"""Spare a process Python's search for cyclic garbage where there is none: among the objects of imported modules.

Importing torch and transformers makes about a million objects that live until the process ends. The collector looks
through them again and again while they are imported, and three times more when the process ends.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Import in this context what is large: the collector rests in it, and goes on after it if it was on before."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def skip_collection_at_exit() -> None:
    """Let the process end without a search for cycles. Functions that are registered with `atexit` run as always."""
    atexit.register(gc.freeze)
