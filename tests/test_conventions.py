"""Conventions of the source: docstrings, sizes, the annotated file tree, and how the tests are laid out."""

import ast
import re
import subprocess
import tomllib
from fnmatch import fnmatch

import pytest

from tests.helpers.sources import PACKAGES, ROOT, imported_names, parse, tracked_files

pytestmark = pytest.mark.fast
FILES = tracked_files(*PACKAGES)
TEST_FILES = tracked_files("tests")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60


@pytest.mark.parametrize("path", FILES)
def test_everything_public_has_a_docstring(path: str) -> None:
    module = parse(path)
    public = [n for n in module.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"]
    missing = [getattr(node, "name", path) for node in (module, *public) if not ast.get_docstring(node)]
    assert not missing or not module.body


@pytest.mark.parametrize("path", FILES)
def test_no_file_and_no_function_is_long(path: str) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= MAX_FILE_LINES
    functions = [node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef)]
    # Functions of a file may share a name, such as methods of two classes: the line tells them apart.
    lengths = {(node.name, node.lineno): (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert not {where: length for where, length in lengths.items() if length > MAX_FUNCTION_LINES}


@pytest.mark.parametrize("path", [path for path in TEST_FILES if not path.startswith("tests/helpers/")])
def test_no_test_imports_another_test(path: str) -> None:
    """What tests share is in tests/conftest.py or tests/helpers/."""
    imported = {name for name in imported_names(parse(path)) if name.split(".")[0] == "tests"}
    assert all(name == "tests.helpers" or name.startswith("tests.helpers.") for name in imported)


def test_test_folders_mirror_the_rooms() -> None:
    folders = {path.split("/")[1] for path in TEST_FILES if path.count("/") > 1} - {"helpers"}
    rooms = {path.split("/")[1] for path in FILES if path.startswith("rlvid/") and path.count("/") > 1}
    assert folders <= rooms | set(PACKAGES)


def test_every_data_file_is_in_the_wheel() -> None:
    """Whatever git tracks in a package, except for documentation, matches a pattern of its package data."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, globs in project["package-data"].items()
        for pattern in globs
    ]
    listed = subprocess.run(["git", "ls-files", "--", *PACKAGES], cwd=ROOT, capture_output=True, text=True)
    data = [path for path in listed.stdout.split() if not path.endswith((".py", ".md", ".png"))]
    assert not [path for path in data if not any(fnmatch(path, pattern) for pattern in patterns)]
    assert all((ROOT / path).with_name("__init__.py").is_file() for path in FILES), "a folder is a package"


def test_the_changelog_is_at_most_120_columns_wide() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    assert not [i for i, line in enumerate(lines, 1) if len(line) > 120]


def described(readme: str) -> dict[str, str]:
    """Return path -> description, from the annotated tree in a README.

    The tree is the fenced block with a line that starts with `rlvid/`. Two spaces of indent are one folder deeper. A
    line is one or more names with single spaces between them, then two or more spaces, then the description. Folders
    end with `/`.
    """
    fenced = re.findall(r"^```\w*\n(.*?)^```", readme, re.M | re.S)
    blocks = [block for block in fenced if re.search(r"^rlvid/ ", block, re.M)]
    assert len(blocks) == 1, f"the README has {len(blocks)} file trees, not one"
    paths: dict[str, str] = {}
    folders = [""]  # the path of the folder at each depth
    for line in filter(None, map(str.rstrip, blocks[0].splitlines())):
        match = re.fullmatch(r"( *)(\S+(?: \S+)*)(?:  +(.*))?", line)
        assert match, line
        indent, names, description = match.groups()
        folders = folders[: len(indent) // 2 + 1]
        paths |= {folders[-1] + name: description or "" for name in names.split()}
        folders.append(folders[-1] + names if names.endswith("/") else folders[-1])
    return paths


def test_the_file_tree_is_parsed_as_described() -> None:
    text = "```\nrlvid/  the program\n  data/   sets\n    hub.py  gets\n  loop.py run.py  two\nREADME.md  this\n```\n"
    assert described(text) == {
        "rlvid/": "the program",
        "rlvid/data/": "sets",
        "rlvid/data/hub.py": "gets",
        "rlvid/loop.py": "two",
        "rlvid/run.py": "two",
        "README.md": "this",
    }


def test_the_file_tree_in_the_readme_is_complete() -> None:
    """It names every folder and every flat module of rlvid/; the modules of a room describe themselves."""
    described_paths = described((ROOT / "rlvid/README.md").read_text())
    assert not [path for path in described_paths if not (ROOT / path).exists()], "the tree names missing files"
    parts = [path.split("/") for path in FILES if path.startswith("rlvid/") and path != "rlvid/__init__.py"]
    expected = {f"rlvid/{part[1]}" + ("/" if len(part) > 2 else "") for part in parts} | {f"{p}/" for p in PACKAGES}
    assert not expected - described_paths.keys(), "the tree lacks files"
    assert all(described_paths.values()), "every line has a description"
