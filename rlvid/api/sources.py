"""Describe plug-ins by parsing their source: nothing of theirs runs, and nothing heavy is imported."""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rlvid.registry import module_file


@dataclass(frozen=True)
class PluginField:
    """A field of a plug-in, as its source declares it."""

    type: str  # the annotation, or ""
    default: str  # an expression, or "required"
    meaning: str = ""  # the comment beside it or above it


class SourceFile:
    """The syntax tree of a Python file and the comments that trees leave out."""

    def __init__(self, path: Path) -> None:
        self.path, self.text = path, path.read_text()
        self.tree = ast.parse(self.text)

    @property
    def first_line(self) -> str:
        """The first line of the module's docstring, or ""."""
        return (ast.get_docstring(self.tree) or "").partition("\n")[0]

    def definitions(self) -> Iterator[ast.ClassDef | ast.FunctionDef]:
        """Yield the classes and functions of the module."""
        return (node for node in self.tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))

    def find(self, name: str) -> ast.ClassDef | ast.FunctionDef:
        """Return the definition that the registry finds under `name`: `dr_grpo` is the class `DrGRPO`."""
        return next(node for node in self.definitions() if _flat(node.name) == _flat(name))

    def fields(self, node: ast.ClassDef | ast.FunctionDef) -> dict[str, PluginField]:
        """Return the fields of a dataclass, inherited ones too, or the keyword-only parameters of a function."""
        return self._class_fields(node) if isinstance(node, ast.ClassDef) else self._keyword_parameters(node)

    def documentation(self, node: ast.ClassDef | ast.FunctionDef) -> str:
        """Return the docstrings of the module and of the definition in it, one after the other."""
        texts = [ast.get_docstring(self.tree), ast.get_docstring(node)]
        return "\n\n".join(dict.fromkeys(inspect.cleandoc(text) for text in texts if text))

    def _class_fields(self, node: ast.ClassDef) -> dict[str, PluginField]:
        """Return the fields of a dataclass in the order that `dataclasses` gives them."""
        found: dict[str, PluginField] = {}
        for base in reversed(node.bases):  # of several base classes, the first one's default counts
            if isinstance(base, ast.Name) and (parent := self._find_class(base.id)):
                file, parent_node = parent
                found |= file._class_fields(parent_node)
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
                return SourceFile(module_file(node.module))._find_class(name)
        return None

    def _keyword_parameters(self, node: ast.FunctionDef) -> dict[str, PluginField]:
        pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        return {
            parameter.arg: PluginField(
                ast.unparse(parameter.annotation) if parameter.annotation else "",
                ast.unparse(default) if default else "required",
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
    return name.replace("_", "").lower()
