"""Forest plots: differences with their intervals, one row each, of one experiment or of several.

`rlvid report` draws one of its comparisons. One of several experiments is made from a TOML file, which lists what their
reports said:

    python -m rlvid.study.forest experiments/effects.toml experiments/pictures/effects.png

    title = "What helped?"
    xlabel = "points of accuracy"

    [[group]]
    title = "Rewards, against accuracy + format"
    finding = "#rewards-where-a-habit-pays"  # where the numbers stand; not drawn
    effects = [
        { name = "balanced world", points = 21.2, interval = [9.0, 33.3], role = "positive control" },
        { name = "+ narrations 3", points = 16.7, interval = [8.4, 25.0] },
    ]
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import copysign, isfinite
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlvid.errors import UserError
from rlvid.study.comparison import Comparison
from rlvid.study.panels import Panels
from rlvid.study.stats import Interval
from rlvid.study.style import COLORS, STYLE, save_figure
from rlvid.utils.files import wrap_write_errors

GREY = "0.45"
SIGN_COLORS = {1: COLORS[2], -1: COLORS[1], 0: GREY}  # an interval above 0, below it, and around it
ROLES = {"method": "o", "positive control": "^", "negative control": "v"}  # a role's marker
ROW_HEIGHT = 0.2  # inches
# No axis goes much further, unless an estimate does: intervals after a first look may be several times as wide.
MOST_POINTS = 60.0


@dataclass(frozen=True)
class Effect:
    """One row: a difference with its interval, in points.

    Args:
        name: what is compared.
        difference: the estimate and the ends of the interval, in points.
        role: one of `ROLES`.
    """

    name: str
    difference: Interval
    role: str = "method"


@dataclass(frozen=True)
class Group:
    """Effects of one experiment, which share an endpoint: rows of the picture under one heading.

    Args:
        title: the heading, which says what is compared and by which endpoint.
        effects: from the top to the bottom.
    """

    title: str
    effects: Sequence[Effect]


def comparison_figure(comparisons: Sequence[Comparison], margin: float, endpoint: str) -> Panels | None:
    """Draw the comparisons of a report, a panel for all levels and one for each level; None if there are none.

    Args:
        comparisons: rows of a report. Differences and `margin` are shares; they are drawn in points.
        margin: of equivalence, a grey band around 0.
        endpoint: what is compared.
    """
    pairs = list(dict.fromkeys((row.a, row.b) for row in comparisons))
    conditions = list(dict.fromkeys(row.condition for row in comparisons))
    if not pairs:
        return None
    names: dict[float, str] = {place: f"{a}\nagainst {b}" for place, (a, b) in enumerate(pairs)}
    limits = axis_limits([in_points(row.difference) for row in comparisons])

    def draw_condition(condition: str, panel: Axes) -> None:
        for row in comparisons:
            if row.condition == condition:
                draw_effect(panel, pairs.index((row.a, row.b)), Effect("", in_points(row.difference)))
        band = f"within {100 * margin:g} points: the margin of equivalence"
        panel.axvspan(-100 * margin, 100 * margin, color="0.94", lw=0, zorder=0, label=band)
        finish(panel, names, limits)
        panel.set(title=condition, xlabel=f"{endpoint}, points")

    longest = max(len(line) for name in names.values() for line in name.splitlines())
    draw = [partial(draw_condition, condition) for condition in conditions]
    size = (2.3, 0.8 + 2 * ROW_HEIGHT * len(pairs))
    return Panels(draw, size, per_row=3, shared=True, shared_x=True, margin=0.07 * longest)


def in_points(share: Interval) -> Interval:
    """Return an interval of shares in points: .05 becomes 5."""
    return Interval(100 * share.value, 100 * share.low, 100 * share.high)


def effects_figure(title: str, xlabel: str, groups: Sequence[Group]) -> Figure:
    """Draw groups of effects, one below the other on one axis of points, with their numbers beside them."""
    rows = sum(len(group.effects) + 1.6 for group in groups)
    figure = Figure(figsize=(7.4, 1.1 + ROW_HEIGHT * rows), layout="constrained")
    panel = figure.subplots()
    names: dict[float, str] = {}
    y = 0.0
    for group in groups:
        heading = panel.text(0.01, y, group.title, transform=panel.get_yaxis_transform(), weight="bold", va="center")
        heading.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # above the lines of the grid
        for effect in group.effects:
            y += 1
            names[y] = effect.name
            draw_effect(panel, y, effect)
            shown = effect.difference
            numbers = f"{shown.value:+.1f}  [{shown.low:+.1f}, {shown.high:+.1f}]"
            panel.text(1.01, y, numbers, transform=panel.get_yaxis_transform(), va="center", fontsize=7)
        y += 1.6
    finish(panel, names, axis_limits([effect.difference for group in groups for effect in group.effects]))
    panel.set(title=title, xlabel=xlabel)
    for role in dict.fromkeys(effect.role for group in groups for effect in group.effects):
        panel.plot([], [], ROLES[role], color=GREY, ms=5, label=role)
    figure.legend(loc="outside lower center", ncols=len(ROLES))
    return figure


def draw_effect(panel: Axes, y: float, effect: Effect) -> None:
    """Draw an estimate and its interval: green above 0, orange below it, else grey. An infinite end leaves the axes."""
    shown = effect.difference
    color = SIGN_COLORS[(shown.low > 0) - (shown.high < 0)]
    outside = 10 * max(MOST_POINTS, abs(shown.value))
    ends = [end if isfinite(end) else copysign(outside, end) for end in (shown.low, shown.high)]
    panel.plot(ends, [y, y], "-", color=color, lw=1.6)
    panel.plot(shown.value, y, ROLES[effect.role], color=color, ms=5)


def finish(panel: Axes, names: Mapping[float, str], limits: tuple[float, float]) -> None:
    """Write the names of the rows at their places, from 0 downwards; draw the line at 0; limit the axis of points."""
    panel.axvline(0, color="0.3", lw=1, zorder=1)
    panel.set_yticks(list(names), list(names.values()))
    panel.set_ylim(max(names) + 0.7, -0.7)
    panel.set_xlim(*limits)
    panel.grid(axis="y", visible=False)


def axis_limits(differences: Sequence[Interval]) -> tuple[float, float]:
    """Return the ends of an axis that shows 0, all estimates, and their intervals as far as `MOST_POINTS`."""
    ends = [end for shown in differences for end in (shown.low, shown.high) if isfinite(end)]
    inside = [0.0, *(max(-MOST_POINTS, min(end, MOST_POINTS)) for end in ends)]
    inside += [shown.value for shown in differences]
    space = 0.04 * (max(inside) - min(inside)) or 1.0
    return min(inside) - space, max(inside) + space


def read_effects(path: Path) -> tuple[str, str, list[Group]]:
    """Read the title, the label of the axis and the groups of a TOML file; UserError names what is wrong with it."""
    try:
        content = tomllib.loads(path.read_text())
        groups = [
            Group(str(group["title"]), [_read_effect(path, effect) for effect in group["effects"]])
            for group in content["group"]
        ]
        title, xlabel = str(content["title"]), str(content["xlabel"])
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, TypeError) as error:
        wrong = (
            f"{error.args[0]} is missing" if isinstance(error, KeyError) else "group or effects is no list of tables"
        )
        raise UserError(f"{path}: {wrong}; rlvid/study/forest.py shows such a file") from error
    if not any(group.effects for group in groups):
        raise UserError(f"{path}: no effects; rlvid/study/forest.py shows such a file")
    return title, xlabel, groups


def _read_effect(path: Path, effect: Mapping[str, object]) -> Effect:
    """Check one row of the file."""
    name, points, interval = effect["name"], effect["points"], effect["interval"]
    role = str(effect.get("role", "method"))
    if role not in ROLES:
        raise UserError(f"{path}: {name}: role is one of {', '.join(ROLES)}, not {role!r}")
    numbers = [points, *interval] if isinstance(interval, list) else []
    if len(numbers) != 3 or not all(isinstance(x, (int, float)) for x in numbers):
        raise UserError(f"{path}: {name}: points is a number and interval two of them, such as [-1.0, 2.5]")
    value, low, high = map(float, numbers)
    if not low <= value <= high:
        raise UserError(f"{path}: {name}: {value:g} is not inside of its interval, {low:g} to {high:g}")
    return Effect(str(name), Interval(value, low, high), role)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the picture of a TOML file of effects."""
    parser = argparse.ArgumentParser(prog="python -m rlvid.study.forest", description=main.__doc__)
    parser.add_argument("effects", type=Path, help="a TOML file, see the top of rlvid/study/forest.py")
    parser.add_argument("picture", type=Path, help="the PNG to write; a PDF is written beside it")
    args = parser.parse_args(argv)
    try:
        read = read_effects(args.effects)
        with matplotlib.rc_context(STYLE), wrap_write_errors(args.picture):
            args.picture.parent.mkdir(parents=True, exist_ok=True)
            save_figure(effects_figure(*read), args.picture)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    print(f"picture      {args.picture}")


if __name__ == "__main__":
    main()
