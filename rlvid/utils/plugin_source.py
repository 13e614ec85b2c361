"""Read the fields of rlvid's own plug-ins from their source: nothing of theirs is imported or run, so it is fast."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

REQUIRED = "required"  # stands for the default of a field that has none


@dataclass(frozen=True)
class PluginSource:
    """What the source of a plug-in says about it."""

    text: str  # the first line of its docstring
    defaults: dict[str, str]  # field -> its default, as written
    annotations: dict[str, str]  # field -> its annotation, "" without one
    own: frozenset[str]  # the fields that it does not inherit
    file: str
    line: int


def module_file(module: str) -> Path:
    """Return the source file of a module without importing it."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin, module
    return Path(spec.origin)


def read_plugin(kind: str, name: str) -> PluginSource:
    """Read a plug-in of the folder `kind`, which is "rewards" or "algorithms", from its source.

    Its fields are those of a dataclass, inherited ones too, or the keyword-only parameters of a function.
    """
    path = module_file(f"{kind}.{name}")
    tree = _parse(path, path.stat().st_mtime_ns)
    node = next(node for node in _definitions(tree) if _flat(node.name) == _flat(name))
    nodes = _class_fields(tree, node) if isinstance(node, ast.ClassDef) else _keyword_parameters(node)
    return PluginSource(
        text=first_line(ast.get_docstring(tree)) or first_line(ast.get_docstring(node)),
        defaults={field: ast.unparse(default) if default else REQUIRED for field, (default, _) in nodes.items()},
        annotations={field: ast.unparse(kind) if kind else "" for field, (_, kind) in nodes.items()},
        own=frozenset(_own_fields(node) if isinstance(node, ast.ClassDef) else nodes),
        file=path.name,
        line=node.lineno,
    )


def first_line(docstring: str | None) -> str:
    """Return the first line of a docstring, "" without one."""
    return (docstring or "").partition("\n")[0]


Fields = dict[str, tuple[ast.expr | None, ast.expr | None]]  # name -> (default, annotation)


@lru_cache
def _parse(path: Path, changed: int) -> ast.Module:
    """Return the syntax tree of a file; `changed` is its time of change, so that an edited file is parsed again."""
    return ast.parse(path.read_text())


def _definitions(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    return (node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))


def _flat(name: str) -> str:
    """Normalize a name as the registry does: `DrGRPO` and `dr_grpo` are equal."""
    return name.replace("_", "").lower()


def _class_fields(tree: ast.Module, node: ast.ClassDef) -> Fields:
    """Return the fields of a dataclass in the order that `dataclasses` gives them."""
    found: Fields = {}
    for base in reversed(node.bases):  # of several base classes, the first one's default counts
        if isinstance(base, ast.Name) and (parent := _find_class(tree, base.id)):
            found |= _class_fields(*parent)
    return found | _own_fields(node)


def _own_fields(node: ast.ClassDef) -> Fields:
    """Return the fields that a dataclass declares itself."""
    found: Fields = {}
    for item in node.body:
        if not isinstance(item, ast.AnnAssign) or "ClassVar" in ast.unparse(item.annotation):
            continue
        if isinstance(item.target, ast.Name) and item.value is not None:
            default = item.value
            if ast.unparse(default) == "field(default_factory=dict)":
                default = ast.Dict([], [])
            found[item.target.id] = (default, item.annotation)
    return found


def _find_class(tree: ast.Module, name: str) -> tuple[ast.Module, ast.ClassDef] | None:
    """Find a class that is defined in a module, or imported into it from another; returns its module and node."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return tree, node
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            path = module_file(node.module)
            return _find_class(_parse(path, path.stat().st_mtime_ns), name)
    return None


def _keyword_parameters(node: ast.FunctionDef) -> Fields:
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {parameter.arg: (default, parameter.annotation) for parameter, default in pairs}
