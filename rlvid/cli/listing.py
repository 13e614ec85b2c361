"""What plug-ins say of themselves, read from their source without running it: `rlvid list` answers at once.

A plug-in's first docstring line is its description; a dataclass's fields, or a function's keyword-only parameters, with
their defaults are its knobs; a subclass shows its parents' fields too.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rlvid.registry import available


@dataclass(frozen=True)
class Description:
    """One row of `rlvid list`."""

    name: str
    says: str
    fields: dict[str, str]  # name: default, as written
    where: str  # file:line


def list_plugins(kind: str) -> list[Description]:
    """Every plug-in in `rewards/` or `algorithms/`."""
    return [_plugin(kind, name) for name in available(kind)]


def list_presets() -> list[Description]:
    """The shipped presets, by their first comment line."""
    files = sorted((module_file("experiments").parent / "presets").glob("*.toml"))
    firsts = [(path, path.read_text().partition("\n")[0].lstrip("# ")) for path in files]
    return [Description(path.stem, says, {}, f"presets/{path.name}") for path, says in firsts]


def list_functions(functions: Mapping[str, Callable[..., Any]]) -> list[Description]:
    """Functions by name, by their first docstring line."""
    where = {name: Path(f.__code__.co_filename).name for name, f in functions.items()}
    return [Description(n, (f.__doc__ or "").partition("\n")[0], {}, where[n]) for n, f in functions.items()]


def list_noises() -> list[Description]:
    """Every kind of noise, with its fields."""
    from rlvid.noise.apply import NOISES

    return [
        Description(
            name,
            (kind.__doc__ or "").partition("\n")[0],
            {f.name: repr(f.default) for f in fields(kind)},
            f"data/{module_file(kind.__module__).name}:{inspect.getsourcelines(kind)[1]}",
        )
        for name, kind in NOISES.items()
    ]


def list_benchmarks() -> list[Description]:
    """What `data` and `eval.transfer` can be in a config."""
    known = {
        "kitchen": ("the embedded benchmark: short mp4 clips of a cook, levels L1 to L3", "kitchen"),
        "kitchen_long": (
            "the embedded one for transfer: longer films, questions that refer, 15s and 60s",
            "kitchen_long",
        ),
        "FOLDER": ("in SEED-Bench-R1's layout, by its annotations/", "seed_bench_r1"),
        "FOLDER ": ("in LongVideoBench's layout, by its lvb_val.json: 15s to 3600s", "longvideobench"),
        "FILE.toml": ("any questions with options, by a map of their fields", "multiple_choice"),
    }
    return [Description(name, says, {}, f"data/{file}.py") for name, (says, file) in known.items()]


def module_file(module: str) -> Path:
    """The file of a module, without importing it."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin, module
    return Path(spec.origin)


def _plugin(kind: str, name: str) -> Description:
    path = module_file(f"{kind}.{name}")
    tree = ast.parse(path.read_text())
    flat = name.replace("_", "")
    node = next(
        n
        for n in tree.body
        if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name.replace("_", "").lower() == flat
    )
    fields = _fields(tree, node) if isinstance(node, ast.ClassDef) else _knobs(node)
    return Description(name, _first_line(tree) or _first_line(node), fields, f"{kind}/{path.name}:{node.lineno}")


def _fields(tree: ast.Module, node: ast.ClassDef) -> dict[str, str]:
    """Dataclass fields with their defaults, in dataclass order: the first of several parents has the last word."""
    fields: dict[str, str] = {}
    for base in reversed(node.bases):
        if isinstance(base, ast.Name) and (found := _class(tree, base.id)):
            fields |= _fields(*found)
    for item in node.body:
        if not isinstance(item, ast.AnnAssign) or "ClassVar" in ast.unparse(item.annotation):
            continue
        if isinstance(item.target, ast.Name) and item.value is not None:
            fields[item.target.id] = ast.unparse(item.value).replace("field(default_factory=dict)", "{}")
    return fields


def _class(tree: ast.Module, name: str) -> tuple[ast.Module, ast.ClassDef] | None:
    """A class by name: defined in this module, or imported into it from another."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return tree, node
        if isinstance(node, ast.ImportFrom) and node.module and any(a.name == name for a in node.names):
            return _class(ast.parse(module_file(node.module).read_text()), name)
    return None


def _knobs(node: ast.FunctionDef) -> dict[str, str]:
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {arg.arg: ast.unparse(default) if default else "required" for arg, default in pairs}


def _first_line(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]
