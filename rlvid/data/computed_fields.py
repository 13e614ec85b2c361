"""Fields that a field map computes from those of a record: a text, a part of a field, or the name of a list.

[computed]
goal = "What next in order to {task_goal}?"
subject = {from = "id", pattern = "[^_]+_(.+)_[0-9]+"}
folder = {from = "subject", values = {Art = ["Music", "Design"], Science = ["Math"]}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlvid.data.records import AnnotationRecord
from rlvid.errors import UserError

PLACEHOLDER = re.compile(r"{([^{}]+)}")


def with_computed(record: AnnotationRecord, computed: Mapping[str, Any], name_file: bool) -> AnnotationRecord:
    """Return a record with further fields: see `[computed]` in the module's docstring.

    With `name_file`, "file" is the name of the record's file without its ending. Raises UserError if a pattern does not
    fit, or if no list holds a value.
    """
    if name_file:
        record = replace(record, fields={**record.fields, "file": Path(record.where.rpartition(":")[0]).stem})
    for name, rule in computed.items():
        if isinstance(rule, str):
            text = fill(record, rule)
        else:
            text = record.get_text(rule["from"])
            if "pattern" in rule:
                match = re.fullmatch(rule["pattern"], text)
                if not match:
                    raise record.error(rule["from"], f"{text[:60]!r} does not fit computed.{name}.pattern")
                text = match[1]
            if "values" in rule:
                text = _name_of_list(record, name, rule, text)
        record = replace(record, fields={**record.fields, name: text})
    return record


def _name_of_list(record: AnnotationRecord, name: str, rule: Mapping[str, Any], text: str) -> str:
    """Return the name of the list of values that holds a text."""
    for key, values in rule["values"].items():
        if text in values:
            return str(key)
    raise record.error(rule["from"], f"no list of computed.{name}.values holds {text[:60]!r}")


def check_computed(file: Path, computed: Mapping[str, Any]) -> None:
    """Raise UserError unless each computed field is a text or a table with `from` and `pattern` or `values`."""
    for name, rule in computed.items():
        problem = ""
        if isinstance(rule, str):
            continue
        if not isinstance(rule, Mapping) or not isinstance(rule.get("from"), str) or len(rule) < 2:
            problem = "a text with {FIELD}, or {from = FIELD, pattern = .. or values = ..}"
        elif rule.keys() - {"from", "pattern", "values"}:
            problem = "only from, pattern and values"
        elif "pattern" in rule and not _has_one_group(rule["pattern"]):
            problem = "a pattern with one group"
        elif not all(isinstance(values, list) for values in rule.get("values", {}).values()):
            problem = "values = {NAME = [TEXTS]}"
        if problem:
            raise UserError(f"{file}: computed.{name} must have {problem}")


def _has_one_group(pattern: Any) -> bool:
    try:
        return re.compile(pattern).groups == 1
    except (re.error, TypeError):
        return False


def fill(record: AnnotationRecord, template: str) -> str:
    """Return a template with the record's fields in place of {FIELD}."""
    return PLACEHOLDER.sub(lambda match: record.get_text(match[1]), template)
