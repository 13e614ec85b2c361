"""Experiment grids: `Grid` describes an experiment; the other modules run its cells and show their progress."""

from rlvid.grids.grid import Grid, Settings

__all__ = ["Grid", "Settings"]
