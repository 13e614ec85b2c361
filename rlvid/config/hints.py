"""Hints for error messages: where a wrong key of a config belongs, and how a list or a table is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from rlvid.config.sections import Config
from rlvid.config.setting import config_keys
from rlvid.registry import available
from rlvid.utils.other_trainers import known_elsewhere
from rlvid.utils.plugin_source import read_plugin
from rlvid.utils.renamed import renamed_hint


def key_hint(key: str, path: str, known: Iterable[str]) -> str:
    """Return the end of the error message about an unknown key.

    It names the key that replaced it, the same key in another section, rlvid's key for a name of TRL or verl, the field
    of an algorithm, or the key with the nearest name.

    Args:
        key: of the table; dotted if its value is a table, see `first_leaf`.
        path: the dotted key of the table, "" for the whole config.
        known: the keys of the table.
    """
    if renamed := renamed_hint("config key", f"{path}.{key}"):
        return renamed
    section, _, last = key.rpartition(".")
    if nearest := get_close_matches(section, known, n=1):  # `trian.max_steps=2`
        return f". Did you mean {nearest[0]!r}?"
    ours = known_elsewhere(f"{path}.{key}".lstrip("."))
    if ours and (path or section):
        return f"; here it is {ours}"
    keys = [other.name for other in config_keys(Config())]
    if elsewhere := [name for name in keys if name.rpartition(".")[2] == last]:  # `max_steps=2`
        return f". Did you mean {' or '.join(elsewhere)}?"
    if ours:
        return f"; here it is {ours}"
    if fields := _algorithms_with(last):
        return f"; it is a field of algorithms such as {fields[0]}: algorithm.{last}"
    if nearest := get_close_matches(key, known, n=1):
        return f". Did you mean {nearest[0]!r}?"
    by_last = {name.rpartition(".")[2]: name for name in keys}
    if nearest := get_close_matches(last, by_last, n=1):
        return f". Did you mean {by_last[nearest[0]]}?"
    return f"; `rlvid list config{' ' + path.partition('.')[0] if path else ''}` lists the keys"


def first_leaf(key: str, value: Any) -> str:
    """Return the dotted name of the first value in a table.

    >>> first_leaf("a", {"b": {"c": 1}}), first_leaf("a", 1)
    ('a.b.c', 'a')
    """
    while isinstance(value, Mapping) and value:
        name, value = next(iter(value.items()))
        key = f"{key}.{name}"
    return key


def _algorithms_with(field: str) -> list[str]:
    """Return the shipped algorithms that have a field."""
    return [name for name in available("algorithms") if field in read_plugin("algorithms", name).fields]


def list_hint(path: str, value: object) -> str:
    """Return how to write a list on the command line, for a value that is none.

    >>> print(list_hint("eval.splits", "[L1]"))
    ; the shell removes quotes, so quote the whole assignment: 'eval.splits=["L1"]'
    >>> print(list_hint("eval.views", "shuffled"))
    ; write 'eval.views=["shuffled"]'
    """
    if not isinstance(value, str):
        return ""
    items = ", ".join(f'"{item.strip()}"' for item in value.strip("[] ").split(",") if item.strip())
    example = f"'{path}=[{items}]'"
    if value.startswith("["):
        return f"; the shell removes quotes, so quote the whole assignment: {example}"
    return f"; write {example}"


def table_hint(value: object) -> str:
    """Return a hint for a table in braces that the shell has taken apart, or ""."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return "; quote the whole assignment, or the shell takes it apart: 'KEY={weight=0.1, OPTION=50}'"
    return ""
