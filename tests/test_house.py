"""The house rules: who may import whom, the README's file tree, a docstring on everything public."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlvid.registry import available

ROOT = Path(__file__).parent.parent
ROOMS = ("rlvid", "rewards", "algorithms", "experiments")


def tracked() -> list[str]:
    """Every Python file of the rooms that belongs to the project: a file of your own needs no entry anywhere."""
    listed = subprocess.run(["git", "ls-files", "--", *ROOMS], cwd=ROOT, capture_output=True, text=True)
    paths = listed.stdout.split() or [str(p.relative_to(ROOT)) for room in ROOMS for p in (ROOT / room).rglob("*")]
    return sorted(p for p in paths if p.endswith(".py") and (ROOT / p).is_file())


FILES = tracked()


def tree(path: str) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse((ROOT / path).read_text(), path)


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Absolute names of the modules that some statements import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module or "")
    return names


def at_the_top(path: str) -> set[str]:
    """What a file imports when it is imported: everything outside functions and `if TYPE_CHECKING`."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            lazy = isinstance(child, ast.FunctionDef | ast.Lambda) or (
                isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            )
            if not lazy:
                yield child
                yield from walk(child)

    return imported(walk(tree(path)))


def anywhere(path: str) -> set[str]:
    """What a file imports at any time."""
    return imported(ast.walk(tree(path)))


def strangers(names: set[str], *allowed: str) -> set[str]:
    """The names that are neither allowed, nor inside something allowed, nor in the standard library."""
    known = (*allowed, *sys.stdlib_module_names)
    return {name for name in names if not any(name == k or name.startswith(f"{k}.") for k in known)}


@pytest.mark.parametrize("path", [p for p in FILES if p.startswith("rewards/")])
def test_a_reward_sees_the_nouns_and_other_rewards(path: str) -> None:
    ours = ("rlvid.types", "rlvid.reward", "rlvid.answer", "rlvid.errors", "rewards")
    assert not strangers(at_the_top(path), *ours), "heavy libraries are imported inside the function that uses them"
    assert not strangers({n for n in anywhere(path) if n.split(".")[0] in ROOMS}, *ours)


@pytest.mark.parametrize("path", [p for p in FILES if p.startswith("algorithms/")])
def test_an_algorithm_sees_tensors_and_other_algorithms(path: str) -> None:
    assert not strangers(anywhere(path), "rlvid.algorithm", "rlvid.types", "rlvid.utils.hashing", "torch", "algorithms")


@pytest.mark.parametrize("path", [p for p in FILES if p.startswith("rlvid/")])
def test_the_program_knows_no_plugin_by_name(path: str) -> None:
    assert not {name for name in anywhere(path) if name.split(".")[0] in ("rewards", "algorithms", "experiments")}
    nodes = list(ast.walk(tree(path)))
    tests = [n for n in nodes if isinstance(n, ast.Compare)] + [
        n.pattern for n in nodes if isinstance(n, ast.match_case)
    ]
    words = {leaf.value for test in tests for leaf in ast.walk(test) if isinstance(leaf, ast.Constant)}
    assert not words & {*available("algorithms")}, "nothing is decided by an algorithm's name"


def test_what_must_answer_at_once_imports_no_torch() -> None:
    modules = ["config", "resolve", "reward", "answer", "__main__", "study.stats", "study.report", "study.grid"]
    code = f"""import importlib, sys
for name in {modules}:
    importlib.import_module("rlvid." + name)
    assert "torch" not in sys.modules, name"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FILES)
def test_everything_public_has_a_docstring(path: str) -> None:
    module = tree(path)
    things = [n for n in module.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"]
    missing = [getattr(n, "name", path) for n in (module, *things) if not ast.get_docstring(n)]
    assert not missing or not module.body


def described(readme: str) -> dict[str, str]:
    """Path -> description, from the README's annotated tree.

    The tree is the fenced block with a line that starts with `rlvid/`. Two spaces of indent are one folder deeper. A
    line is one or more names with single spaces between them, then two or more spaces, then what they are. Folders end
    with `/`.
    """
    blocks = [b for b in re.findall(r"^```\w*\n(.*?)^```", readme, re.M | re.S) if re.search(r"^rlvid/", b, re.M)]
    assert len(blocks) == 1, f"README.md has {len(blocks)} file trees, not one"
    paths, folders = {}, [""]
    for line in filter(None, map(str.rstrip, blocks[0].splitlines())):
        indent, names, what = re.fullmatch(r"( *)(\S+(?: \S+)*)(?:  +(.*))?", line).groups()  # type: ignore[union-attr]
        folders = folders[: len(indent) // 2 + 1]
        paths |= {folders[-1] + name: what or "" for name in names.split()}
        folders.append(folders[-1] + names if names.endswith("/") else folders[-1])
    return paths


def test_the_readmes_tree_reads_as_described() -> None:
    text = (
        "```\nrlvid/  the program\n  data/   sets\n    noise.py  flips\n  loop.py run.py  two\nREADME.md  this\n```\n"
    )
    assert described(text) == {
        "rlvid/": "the program",
        "rlvid/data/": "sets",
        "rlvid/noise/apply.py": "flips",
        "rlvid/trainer/loop.py": "two",
        "rlvid/trainer/run_folder.py": "two",
        "README.md": "this",
    }


def test_the_readmes_tree_is_true() -> None:
    readme = ROOT / "README.md"
    if not readme.is_file() or "\nrlvid/" not in readme.read_text():
        pytest.xfail("README.md has no file tree yet")
    named = described(readme.read_text())
    assert not [path for path in named if not (ROOT / path).exists()], "the tree names what does not exist"
    assert not [p for p in FILES if p not in named and not p.endswith("__init__.py")], "the tree lacks files"
    assert all(what for path, what in named.items() if path.endswith(".py")), "every file says what it is"
