"""The Python files of the project, and what they import, read without importing anything."""

import ast
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("rlvid", "rewards", "algorithms", "experiments")


def tracked_files(*folders: str) -> list[str]:
    """Return the Python files that belong to the project, relative to its root.

    Files that git does not track are left out, so that a file of your own needs no entry anywhere. Without git, all
    files count.
    """
    listed = subprocess.run(["git", "ls-files", "--", *folders], cwd=ROOT, capture_output=True, text=True)
    paths = listed.stdout.split() or [
        str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*")
    ]
    return sorted(path for path in paths if path.endswith(".py") and (ROOT / path).is_file())


def parse(path: str) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse((ROOT / path).read_text(), path)


def module_name(path: str) -> str:
    """Return the module of a file: rlvid/data/hub.py is rlvid.data.hub."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def statements(tree: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    """Yield the nodes of a module that run.

    Args:
        tree: a syntax tree.
        lazy: whether to include what runs only when a function is called. `if TYPE_CHECKING` blocks never run.
    """
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if not lazy and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from statements(child, lazy)


def imported_names(tree: ast.AST, lazy: bool = True) -> set[str]:
    """Return the modules that a syntax tree imports. `from a import b` counts as `a`."""
    names = set()
    for node in statements(tree, lazy):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module or "")
    return names


def imported_modules(tree: ast.AST, modules: Collection[str], lazy: bool) -> set[str]:
    """Return which of the project's `modules` a syntax tree imports. `from a import b` is `a.b` if that is a module."""
    names = set()
    for node in statements(tree, lazy):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if submodule in modules else node.module or "")
    return names & set(modules)


def outside(names: Iterable[str], *allowed: str) -> set[str]:
    """Return the names that are neither allowed, nor inside something allowed, nor in the standard library."""
    known = (*allowed, *sys.stdlib_module_names)
    return {name for name in names if not any(name == root or name.startswith(f"{root}.") for root in known)}
