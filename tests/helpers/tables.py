"""Markdown tables of the READMEs as data."""

from pathlib import Path

README = Path(__file__).parents[2] / "rewards" / "README.md"


def rows(table: str) -> dict[str, list[str]]:
    """A Markdown table's rows by their first cell."""
    cells = ([c.strip() for c in line.strip("| \n").split(" | ")] for line in table.splitlines() if line[:1] == "|")
    return {first: rest for first, *rest in cells}
