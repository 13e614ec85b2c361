"""The tables and pages of `rlvid list`: one line for each name in a list, everything about a name on its page."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rlvid.api.listing import LIST_TEXTS, LISTS, Description, default_in_toml
from rlvid.config import Config, ConfigKey, config_keys


def list_table(rows: Sequence[Description]) -> Table:
    """Render a list: the name and the description of each row, on one line that is cut at the end of the terminal."""
    table = _one_line_table("name", "description")
    table.columns[0].min_width = max(len(row.name) for row in rows)  # never cut
    for row in rows:
        table.add_row(row.name, Text(row.text))
    return table


def lists_table() -> Table:
    """Render the names of all lists and how many names each has."""
    table = _one_line_table("list", "names", "of what")
    table.add_row("config", str(len([*config_keys(Config())])), "keys of a config: type, default, meaning")
    for name, rows in LISTS.items():
        table.add_row(name, str(len(rows())), LIST_TEXTS[name])
    return table


def description_page(row: Description) -> RenderableType:
    """Render everything about one name: documentation, fields with defaults, where it is, how it is used."""
    parts: list[RenderableType] = [Text.assemble((row.name, "bold"), "   ", (row.source, "dim")), ""]
    parts.append(Padding(Text(row.documentation or row.text), (0, 0, 0, 2)))
    if row.fields:
        columns = [
            ("field", list(row.fields)),
            ("type", [item.type for item in row.fields.values()]),
            ("default", [item.default for item in row.fields.values()]),
            ("meaning", [item.meaning for item in row.fields.values()]),
        ]
        filled = [(title, cells) for title, cells in columns if any(cells)]
        table = _table(*(title for title, _ in filled))
        for cells in zip(*(cells for _, cells in filled), strict=True):
            table.add_row(*map(Text, cells))
        parts += ["", table]
    if row.usage:
        parts += ["", Text(f"use  {row.usage}")]
    return Group(*parts)


def config_list(keys: Sequence[ConfigKey]) -> Table:
    """Render config keys on one line each: key, default, meaning."""
    table = _one_line_table("key", "default", "meaning")
    table.columns[0].min_width, table.columns[1].min_width = max(len(key.name) for key in keys), 12
    table.columns[1].max_width = 20
    for key in keys:
        table.add_row(key.name, Text(default_in_toml(key.value)), Text(_meaning(key)))
    return table


def config_page(keys: Sequence[ConfigKey]) -> Table:
    """Render config keys in full: key, type, default, meaning with limits."""
    table = _table("key", "type", "default", "meaning")
    for key in keys:
        table.add_row(key.name, _type_in_words(key.type), Text(default_in_toml(key.value)), Text(_meaning(key)))
    return table


def print_in_full(console: Console, content: RenderableType) -> None:
    """Print in the width of a terminal; where there is none, cut and wrap nothing, and print no blanks at line ends."""
    target = console if console.is_terminal else Console(file=console.file, width=100_000)
    with target.capture() as capture:
        target.print(content, markup=False, highlight=False)
    target.file.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def _meaning(key: ConfigKey) -> str:
    return key.meaning + (f"; {key.limits}" if str(key.limits) else "")


def _table(*columns: str) -> Table:
    """Return a table whose cells are wrapped; the first column is never broken."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number == 0)
    return table


def _one_line_table(*columns: str) -> Table:
    """Return a table whose rows take one line: the last column has what is left, and is cut with an ellipsis."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis", ratio=1 if column == columns[-1] else None)
    return table


def _type_in_words(annotation: str) -> str:
    """Name an annotation of the config: "tuple[str, ...]" is "list of str"."""
    words = {"tuple[str, ...]": "list of str", "Plugin": "name or table", "tuple[Plugin, ...]": "table"}
    return words.get(annotation, annotation.replace(" | None", ' or ""'))
