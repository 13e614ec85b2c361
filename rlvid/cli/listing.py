"""The tables of `rlvid list`. Plug-ins are described by parsing their source: nothing of theirs runs or is imported.

The description of a plug-in is the first line of its docstring. Its fields are those of a dataclass, inherited ones
too, or the keyword-only parameters of a function.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import tomli_w
from rich.table import Table

from rlvid.config import Config, config_keys
from rlvid.errors import UserError
from rlvid.registry import available, suggest
from rlvid.utils.plugin_source import first_line, module_file, read_plugin


@dataclass(frozen=True)
class Description:
    """One row of a list."""

    name: str
    text: str
    fields: dict[str, str]  # name -> default, as written in the source
    source: str  # file:line


# Rows


def list_plugins(kind: str) -> list[Description]:
    """Describe every plug-in of a folder; `kind` is "rewards" or "algorithms"."""
    sources = {name: read_plugin(kind, name) for name in available(kind)}
    return [
        Description(name, source.text, source.defaults, f"{kind}/{source.file}:{source.line}")
        for name, source in sources.items()
    ]


def list_presets() -> list[Description]:
    """Describe the shipped presets by the comment in their first line."""
    rows = []
    for path in sorted((module_file("experiments").parent / "presets").glob("*.toml")):
        first_line = path.read_text().partition("\n")[0]
        rows.append(Description(path.stem, first_line.lstrip("# "), {}, f"presets/{path.name}"))
    return rows


def list_views() -> list[Description]:
    """Describe the altered views of a clip."""
    from rlvid.video.views import VIEWS

    source = module_file("rlvid.video.views").name
    return [Description(name, first_line(view.__doc__), {}, f"video/{source}") for name, view in VIEWS.items()]


def list_noises() -> list[Description]:
    """Describe every kind of noise, with its fields."""
    from rlvid.noise.apply import NOISES

    rows = []
    for name, kind in NOISES.items():
        defaults = {item.name: repr(item.default) for item in fields(kind)}
        file, line = module_file(kind.__module__).name, inspect.getsourcelines(kind)[1]
        rows.append(Description(name, first_line(kind.__doc__), defaults, f"noise/{file}:{line}"))
    return rows


def list_benchmarks() -> list[Description]:
    """Describe the values that `data` and `eval.transfer` can have in a config."""
    known = (
        ("kitchen", "the embedded benchmark: short mp4 clips of a cook, levels L1 to L3", "kitchen"),
        ("kitchen_long", "the embedded transfer benchmark: longer films, levels 15s and 60s", "kitchen_long"),
        ("FOLDER", "the layout of SEED-Bench-R1, recognized by annotations/", "seed_bench_r1"),
        ("FOLDER", "the layout of LongVideoBench, recognized by lvb_val.json; levels 15s to 3600s", "longvideobench"),
        ("FILE.toml", "any questions with options, by a map of their fields", "multiple_choice"),
    )
    return [Description(name, text, {}, f"data/{module}.py") for name, text, module in known]


def list_evidence() -> list[Description]:
    """Describe every kind of evidence, by the `@evidence(...)` decorators in the source."""
    path = module_file("rlvid.trainer.evidence_kinds")
    rows = []
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "evidence":
                name = ast.literal_eval(call.args[0])
                options = {str(option.arg): ast.unparse(option.value) for option in call.keywords}
                text = first_line(ast.get_docstring(node))
                rows.append(Description(name, text, options, f"trainer/{path.name}:{node.lineno}"))
    return rows


LISTS: dict[str, Callable[[], list[Description]]] = {
    "rewards": lambda: list_plugins("rewards"),
    "algorithms": lambda: list_plugins("algorithms"),
    "presets": list_presets,
    "benchmarks": list_benchmarks,
    "evidence": list_evidence,
    "noise": list_noises,
    "views": list_views,
}


# Tables


def description_table(rows: Sequence[Description]) -> Table:
    """Render the rows of a list; the column of fields is left out if no row has any."""
    has_fields = any(row.fields for row in rows)
    table = _table("name", "description", *(["fields"] if has_fields else []), "source")
    for row in rows:
        pairs = "  ".join(f"{key}={value}" for key, value in row.fields.items())
        table.add_row(row.name, row.text, *([pairs] if has_fields else []), row.source)
    return table


def config_table(section: str = "") -> Table:
    """Render the keys of a config with type, default and meaning.

    Args:
        section: such as "train", to show only its keys; "" for all.

    Raises:
        UserError: for an unknown section.
    """
    rows = list(config_keys(Config()))
    sections = {row.name.partition(".")[0] for row in rows}
    if section and section not in sections:
        raise UserError(f"no section {section!r} in a config.{suggest(section, sections)}")
    table = _table("key", "type", "default", "meaning")
    for row in rows:
        if section in ("", row.name.partition(".")[0]):
            limits = f"; {row.limits}" if str(row.limits) else ""
            table.add_row(row.name, _type_in_words(row.type), _as_toml(row.value), row.meaning + limits)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number == 0)
    return table


def _type_in_words(annotation: str) -> str:
    """Name an annotation of the config: "tuple[str, ...]" is "list of str"."""
    words = {"tuple[str, ...]": "list of str", "Plugin": "name or table", "tuple[Plugin, ...]": "table"}
    return words.get(annotation, annotation.replace(" | None", ' or ""'))


def _as_toml(value: Any) -> str:
    """Write a default as it would stand in a TOML file; plug-ins by name."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_as_toml(item) for item in value) + "]"
    if hasattr(value, "name"):  # a Plugin
        return str(value.name)
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()
