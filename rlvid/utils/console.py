"""The console that tables are printed to, and lines of the main process."""

from __future__ import annotations

import os

from rich.console import Console

PIPED_WIDTH = 140  # columns where there is no terminal and COLUMNS is not set, so that no table is cut


def wide_console(console: Console | None = None, stderr: bool = False) -> Console:
    """Return a console for tables; where it is no terminal, a wide one without colours.

    Args:
        console: the console to print to; default: stdout.
        stderr: without `console`, print to stderr.
    """
    console = console or Console(stderr=stderr)
    if console.is_terminal:
        return console
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdigit() and int(columns) else PIPED_WIDTH
    return Console(file=console.file, width=width, highlight=False)


def print_main(text: str) -> None:
    """Print text to stdout in the main process; the other processes of a run print nothing."""
    if os.environ.get("RANK", "0") == "0":
        print(text, flush=True)
