"""Describe plug-ins by parsing their source: nothing of theirs is imported or run, so it is fast."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

REQUIRED = "required"  # stands for the default of a field that has none


@dataclass(frozen=True)
class PluginField:
    """A field of a plug-in, as its source declares it."""

    type: str  # the annotation, "" without one
    default: str  # an expression, or REQUIRED
    meaning: str = ""  # the comment beside it or above it
    own: bool = True  # declared by the plug-in itself, not inherited


@dataclass(frozen=True)
class PluginSource:
    """What the source of a plug-in says about it."""

    text: str  # the first line of its docstring
    fields: dict[str, PluginField]  # those of a dataclass, inherited ones too, or a function's keyword-only parameters
    documentation: str  # the docstrings of its module and of its class or function
    file: str  # the name of its file
    line: int


def module_file(module: str) -> Path:
    """Return the source file of a module without importing it."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin, module
    return Path(spec.origin)


def read_plugin(kind: str, name: str) -> PluginSource:
    """Read a plug-in of the folder `kind`, which is "rewards" or "algorithms", from its source."""
    return read_source(f"{kind}.{name}").plugin(name)


def read_source(module: str) -> SourceFile:
    """Parse the source file of a module; one that has not changed since is parsed once."""
    path = module_file(module)
    return _parse(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _parse(path: Path, changed: int) -> SourceFile:
    """Parse a file; `changed` is its time of change, so that an edited file is parsed again."""
    return SourceFile(path)


class SourceFile:
    """The syntax tree of a Python file and the comments that trees leave out. See `read_source`."""

    def __init__(self, path: Path) -> None:
        self.path, self.text = path, path.read_text()
        self.tree = ast.parse(self.text)

    @property
    def documentation(self) -> str:
        """The docstring of the module, or ""."""
        return ast.get_docstring(self.tree) or ""

    def definitions(self) -> Iterator[ast.ClassDef | ast.FunctionDef]:
        """Yield the classes and functions of the module."""
        return (node for node in self.tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))

    def plugin(self, name: str) -> PluginSource:
        """Describe the definition that the registry finds under `name`: `dr_grpo` is the class `DrGRPO`."""
        node = next(node for node in self.definitions() if _flat(node.name) == _flat(name))
        texts = [text for text in (self.documentation, ast.get_docstring(node)) if text]
        return PluginSource(
            text=texts[0].partition("\n")[0] if texts else "",
            fields=self._class_fields(node) if isinstance(node, ast.ClassDef) else self._keyword_parameters(node),
            documentation="\n\n".join(dict.fromkeys(inspect.cleandoc(text) for text in texts)),
            file=self.path.name,
            line=node.lineno,
        )

    def _class_fields(self, node: ast.ClassDef) -> dict[str, PluginField]:
        """Return the fields of a dataclass in the order that `dataclasses` gives them."""
        found: dict[str, PluginField] = {}
        for base in reversed(node.bases):  # of several base classes, the first one's default counts
            if isinstance(base, ast.Name) and (parent := self._find_class(base.id)):
                file, parent_node = parent
                found |= file._class_fields(parent_node)
        found = {name: replace(field, own=False) for name, field in found.items()}
        for item in node.body:
            if not isinstance(item, ast.AnnAssign) or "ClassVar" in ast.unparse(item.annotation):
                continue
            if isinstance(item.target, ast.Name) and item.value is not None:
                name, inherited = item.target.id, found.get(item.target.id)
                default = ast.unparse(item.value).replace("field(default_factory=dict)", "{}")
                meaning = self._comment(item) or (inherited.meaning if inherited else "")
                found[name] = PluginField(ast.unparse(item.annotation), default, meaning)
        return found

    def _find_class(self, name: str) -> tuple[SourceFile, ast.ClassDef] | None:
        """Find a class that is defined here, or imported from another module; returns its file and node."""
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return self, node
            if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
                root = node.module.partition(".")[0]  # of a user's file; what cannot be found has no fields here
                return read_source(node.module)._find_class(name) if importlib.util.find_spec(root) else None
        return None

    def _keyword_parameters(self, node: ast.FunctionDef) -> dict[str, PluginField]:
        pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        return {
            parameter.arg: PluginField(
                ast.unparse(parameter.annotation) if parameter.annotation else "",
                ast.unparse(default) if default else REQUIRED,
                self._comment(parameter) if parameter.lineno != node.lineno else "",
            )
            for parameter, default in pairs
        }

    def _comment(self, node: ast.AnnAssign | ast.arg) -> str:
        """Return the comment at the end of a node's line, or else the comment lines right above it."""
        if beside := self._comments.get(node.end_lineno or node.lineno):
            return beside[0]
        above: list[str] = []
        line = node.lineno - 1
        while line in self._comments and self._comments[line][1]:
            above.insert(0, self._comments[line][0])
            line -= 1
        return " ".join(above)

    @cached_property
    def _comments(self) -> dict[int, tuple[str, bool]]:
        """Line -> its comment, and whether the line holds nothing else."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {
            token.start[0]: (token.string.lstrip("# ").strip(), token.line.lstrip().startswith("#"))
            for token in tokens
            if token.type == tokenize.COMMENT and not token.string.startswith("# noqa")
        }


def _flat(name: str) -> str:
    """Normalize a name as the registry does: `DrGRPO` and `dr_grpo` are equal."""
    return name.replace("_", "").lower()
