"""The Markdown tables of a README as data."""

from pathlib import Path

README = Path(__file__).parents[2] / "rewards" / "README.md"


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of all Markdown tables in a text: first cell -> the other cells."""
    table = {}
    for line in text.splitlines():
        if line.startswith("|"):
            first, *others = (cell.strip() for cell in line.strip("| \n").split(" | "))
            table[first] = others
    return table
