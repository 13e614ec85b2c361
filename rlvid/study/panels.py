"""A figure of several panels: in one picture for a file, or a picture for each panel for the page, which wraps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

LEGEND_ROW = 0.2  # height of a line of the legend, inches


@dataclass(frozen=True)
class Panels:
    """Panels of one size, and the legend that they share.

    Args:
        draw: a function for each panel, which draws it on empty axes, with its title and its labels.
        size: width and height of a panel, inches.
        per_row: panels in a row of the one picture.
        shared: all panels have the same y axis, whose labels are then written once a row.
        shared_x: they have the same x axis.
        legend_columns: of the legend under the one picture.
        margin: inches added to the width for the labels of the y axis, where they are shared.
    """

    draw: Sequence[Callable[[Axes], None]]
    size: tuple[float, float]
    per_row: int = 4
    shared: bool = False
    shared_x: bool = False
    legend_columns: int = 4
    margin: float = 0.0

    def together(self) -> Figure:
        """Return all panels in one figure, with the legend below."""
        columns = min(self.per_row, len(self.draw))
        rows = -(-len(self.draw) // columns)  # rounded up
        size = (self.margin + self.size[0] * columns, 0.5 + self.size[1] * rows)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, sharex=self.shared_x, sharey=self.shared, squeeze=False).flatten()
        for panel, draw in zip(axes, self.draw, strict=False):
            draw(panel)
            if self.shared:
                label = panel.get_xlabel()
                panel.label_outer()
                panel.xaxis.set_tick_params(labelbottom=True)
                panel.set_xlabel(label)  # rows may have x axes of their own
        for unused in axes[len(self.draw) :]:
            unused.set_axis_off()
        lines, names = axes[0].get_legend_handles_labels()
        if names:
            figure.legend(lines, names, loc="outside lower center", ncols=min(self.legend_columns, len(names)))
        return figure

    def apart(self) -> list[Figure]:
        """Return a figure for each panel, with limits as in one figure, and then one with the legend alone."""
        together = self.together()
        figures = []
        for shared, draw in zip(together.axes, self.draw, strict=False):
            figure = Figure(figsize=(self.margin + self.size[0], self.size[1]), layout="constrained")
            panel = figure.subplots()
            draw(panel)
            panel.set(xlim=shared.get_xlim(), ylim=shared.get_ylim())
            figures.append(figure)
        lines, names = together.axes[0].get_legend_handles_labels()
        if names:
            legend = Figure(figsize=(self.margin + self.size[0], 0.2 + LEGEND_ROW * len(names)))
            legend.legend(lines, names, loc="upper left", borderaxespad=0)
            figures.append(legend)
        return figures


def step_axis(panel: Axes) -> None:
    """Give a panel whose x axis counts steps whole ticks only, and its label."""
    panel.xaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    panel.set_xlabel("step")
