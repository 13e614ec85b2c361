"""experiments/README.md: its index is complete, its links and commands exist, and its lines are short."""

import re
import runpy
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest

from rlvid.grids.cell import select_cells
from rlvid.utils.renamed import RENAMED

FOLDER = Path(__file__).parents[2] / "experiments"
README = (FOLDER / "README.md").read_text()
PROSE = re.sub(r"^```\n.*?^```", "", README, flags=re.M | re.S)


def anchor(heading):
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_finding_is_in_the_index_with_its_date():
    index = README.split("\n## Index\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| .* \| (.*?) \| .* \| \[.*\]\(#(.*?)\) \|$", index, re.M)
    findings = re.split(r"^### ", README, flags=re.M)[1:]
    assert {link for _, link in rows} == {anchor(text.partition("\n")[0]) for text in findings}
    for dates, link in rows:
        [text] = [text for text in findings if anchor(text.partition("\n")[0]) == link]
        assert all(date in text for date in re.findall(r"\d{4}-\d\d-\d\d", dates)), link


def test_every_number_of_the_picture_of_effects_stands_in_its_finding():
    findings = {anchor(text.partition("\n")[0]): text for text in re.split(r"^### ", README, flags=re.M)[1:]}
    groups = tomllib.loads((FOLDER / "effects.toml").read_text())["group"]
    assert len(groups) >= 8
    for group in groups:
        numbers = set(re.findall(r"\d+\.\d", findings[group["finding"].removeprefix("#")]))
        for effect in group["effects"]:
            missing = {f"{abs(number):.1f}" for number in (effect["points"], *effect["interval"])} - numbers
            assert not missing, (group["finding"], effect["name"])


def test_every_link_leads_somewhere():
    for link in re.findall(r"\]\((.*?)\)", README):
        name, _, heading = link.partition("#")
        path = FOLDER / (name or "README.md")
        assert path.exists(), link
        assert not heading or heading in map(anchor, re.findall(r"^#+ (.*)", path.read_text(), re.M)), link


def test_lines_are_at_most_120_wide_but_for_rows_of_tables():
    assert not [line for line in README.splitlines() if len(line) > 120 and not line.startswith("|")]


def test_every_command_selects_arms_of_its_grid():
    """Arms are renamed now and then; `--only` must still name them."""
    commands = re.findall(r"rlvid grid (experiments/\w+\.py)([^`]*)", README)
    assert len(commands) >= 6
    cells = cache(lambda script: runpy.run_path(str(FOLDER.parent / script))["GRID"].cells("nano"))
    for script, options in commands:
        words = shlex.split(options.replace("\\\n", "").partition("\nrlvid")[0])
        patterns = words[words.index("--only") + 1 :] if "--only" in words else []
        assert select_cells(cells(script), [pattern for pattern in patterns if pattern != "..."] or None), script


@pytest.mark.parametrize("name", ["config key", "field", "command"])
def test_no_old_name_is_left(name):
    old = set(RENAMED[name]) - {"within"}  # also an English word
    assert not [word for word in old if re.search(rf"\brlvid {word}\b|\b{re.escape(word)}=", README)]
