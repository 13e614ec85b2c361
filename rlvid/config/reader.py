"""Read a `Config` from TOML files and dotted overrides.

1. A preset is a TOML file. With `extends = "PARENT"`, its keys are merged over those of its parent.
2. Overrides such as `train.max_steps=10` are merged over the preset, in order.
   Where a preset or the overrides set `eval.protocol`, the protocol's settings come right before their other keys.
   An algorithm that the overrides name comes first, too: `algorithm.beta=0.01 algorithm=dr_grpo` sets both.
3. The merged table becomes a `Config`. Unknown keys, wrong types and values out of their limits raise UserError.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from rlvid.config.hints import first_leaf, key_hint, list_hint, table_hint
from rlvid.config.plugins import Plugin, with_saved_copy
from rlvid.config.rules import check_limits, check_rules, check_weights
from rlvid.config.sections import Config, check_names
from rlvid.errors import UserError
from rlvid.protocols import protocol_settings
from rlvid.registry import preset_path


def load(name: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a preset and apply overrides.

    Args:
        name: the path of a TOML file, or a name from `rlvid list presets`.
        overrides: TOML assignments with dotted keys, such as `train.max_steps=10`.

    Raises:
        UserError: for a missing file, TOML that cannot be parsed, unknown keys, wrong types or values. The message
            names the file or the override that it comes from.
    """
    path = preset_path(name)
    table = _read_file(path)
    changes = [(override, parse_override(override)) for override in overrides]
    for _, change in changes:
        _merge_protocol(table, change)
    if names := [name for _, change in changes if (name := algorithm_name(change))]:
        _merge(table, {"algorithm": {"name": names[-1]}})
    for override, change in changes:
        for key, value in change.items():
            if value == {}:
                raise UserError(f"override {override!r}: {key} is an empty table, which changes nothing: leave it out")
        _check_alone(change, f"override {override!r}", table)
        if algorithm_name(change) in ("", *names[-1:]):  # fields of an algorithm that a later override replaces
            _merge(table, change)
    saved_files = table.pop("plugins", {})  # file -> digest, as config.toml of a run holds them
    config = from_table(table, where=str(path))
    check_names(config)
    check_weights(table.get("rewards", {}), where=f"{path} with overrides" if overrides else str(path))
    return _with_saved_copies(config, saved_files, path.parent) if saved_files else config


def _with_saved_copies(config: Config, digests: Mapping[str, str], folder: Path) -> Config:
    """Return a config that was saved in a run's folder, with its plug-ins as they were."""
    algorithm = with_saved_copy(config.algorithm, digests, folder)
    rewards = tuple(with_saved_copy(plugin, digests, folder) for plugin in config.rewards)
    measured = tuple(with_saved_copy(plugin, digests, folder) for plugin in config.eval.rewards)
    return replace(config, algorithm=algorithm, rewards=rewards, eval=replace(config.eval, rewards=measured))


def from_table(table: Mapping[str, Any], where: str = "config") -> Config:
    """Make a Config from nested tables, as TOML gives them. `where` begins each error message.

    Raises:
        UserError: for unknown keys, wrong types or values.
    """
    config = _to_config(table, where)
    check_limits(config, where)
    check_rules(config, where)
    return config


def _to_config(table: Mapping[str, Any], where: str) -> Config:
    """Convert nested tables to a Config; UserError for unknown keys and wrong types."""
    table = {key: value for key, value in table.items() if key != "plugins"}
    if "algorithm" in table:
        table["algorithm"] = _plugin(_long_form("algorithm", table["algorithm"]), f"{where}: algorithm")
    if "rewards" in table:
        table["rewards"] = _rewards(table["rewards"], f"{where}: rewards")

    section = table.get("eval")
    if isinstance(section, Mapping) and "rewards" in section:
        measured = section["rewards"]
        table["eval"] = {**section, "rewards": _rewards(measured, f"{where}: eval.rewards") if measured else ()}

    section = table.get("noise")
    if isinstance(section, Mapping):
        kind_fields = {key: value for key, value in section.items() if key not in ("kind", "seed")}
        table["noise"] = {key: section[key] for key in section if key not in kind_fields} | {"fields": kind_fields}

    return _dataclass(Config, table, where, path="")


# Reading and merging tables


def _read_file(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a TOML file and merge it over the file that it extends. `children` are the files that extend it."""
    if path in children:
        raise UserError(f"{path}: extends itself, by {' and '.join(map(str, children))}; remove one `extends`")
    try:
        table = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    parent, base = table.pop("extends", None), {}
    if parent is not None:
        if not isinstance(parent, str):
            raise UserError(f"{path}: extends must be the name or the path of a preset, not {parent!r}")
        beside = path.parent / parent
        base = _read_file(beside if beside.is_file() else preset_path(parent), (*children, path))
    _check_alone(table, str(path), base)
    _merge_protocol(base, table)
    _merge(base, table)
    return base


def _merge_protocol(base: dict[str, Any], change: Mapping[str, Any]) -> None:
    """Merge the settings of the protocol that a change names, if it names one, into `base` in place."""
    section = change.get("eval")
    name = section.get("protocol") if isinstance(section, Mapping) else None
    if isinstance(name, str):
        _merge(base, protocol_settings(name))


def algorithm_name(change: Mapping[str, Any]) -> str:
    """Return the algorithm that a table names, as `algorithm = "grpo"` or `algorithm.name`; "" if it names none."""
    algorithm = _long_form("algorithm", change.get("algorithm"))
    name = algorithm.get("name") if isinstance(algorithm, Mapping) else None
    return name if isinstance(name, str) else ""


def _check_alone(table: Mapping[str, Any], where: str, base: Mapping[str, Any]) -> None:
    """Raise UserError for unknown keys, wrong types and values of a table that is merged over `base` later."""
    alone = {key: value for key, value in table.items() if key != "plugins"}
    algorithm = alone.get("algorithm")
    if isinstance(algorithm, Mapping) and "name" not in algorithm:
        inherited = _long_form("algorithm", base.get("algorithm", Config().algorithm.name))
        name = inherited.get("name") if isinstance(inherited, Mapping) else None
        alone["algorithm"] = {"name": name or Config().algorithm.name, **algorithm}
    if alone.get("rewards") == {}:
        raise UserError(f"{where}: rewards is an empty table, which changes nothing: name one, such as accuracy = 1.0")
    check_limits(_to_config(alone, where), where)


def parse_override(text: str) -> dict[str, Any]:
    """Parse one override: `a.b=1` becomes {"a": {"b": 1}}. A value that is not valid TOML is a string."""
    key_part = r"""(?:"[^"]*"|'[^']*'|[^"'=])+"""  # quoted parts may hold "="
    match = re.fullmatch(rf"({key_part})=(.*)", text, re.DOTALL)
    if not match:
        raise UserError(f"override {text!r} is not an assignment; write key.sub=value")
    key, value = match.groups()
    escaped = value.strip().replace("\\", "\\\\").replace('"', '\\"')
    for attempt in (value, f'"{escaped}"'):
        try:
            return tomllib.loads(f"{key} = {attempt}")
        except tomllib.TOMLDecodeError:
            continue
    raise UserError(
        f'override {text!r}: {key!r} is not a TOML key; quote parts with dots or slashes: rewards."./r.py:f"'
    )


def _merge(base: dict[str, Any], change: Mapping[str, Any], path: str = "") -> None:
    """Merge `change` into `base` in place. `path` is the dotted key of `base`.

    Tables are merged key by key; other values are replaced. If a plug-in in `base` has its short form, it becomes a
    table first. An algorithm with another name replaces the old one with all of its fields; one with the same name
    keeps them, so that `rlvid train nano algorithm=grpo` is `rlvid train nano`.
    """
    for key, value in change.items():
        here = f"{path}.{key}".lstrip(".")
        if here == "algorithm":
            value = _long_form("algorithm", value)
        if isinstance(value, Mapping) and key in base:
            if here == "algorithm":
                base[key] = _long_form("algorithm", base[key])
            elif path == "rewards":
                base[key] = _long_form("reward", base[key])
            if isinstance(base[key], dict) and (here != "algorithm" or _is_same_algorithm(base[key], value)):
                _merge(base[key], value, here)
                continue
        base[key] = dict(value) if isinstance(value, Mapping) else value


# Plug-ins


def _is_same_algorithm(base: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    return change.get("name", base.get("name")) == base.get("name")


def _long_form(kind: str, value: Any) -> Any:
    """Turn the short form of a plug-in into its table: "grpo" -> {name = "grpo"}, 0.2 -> {weight = 0.2}."""
    if kind == "algorithm" and isinstance(value, str):
        return {"name": value}
    if kind == "reward" and isinstance(value, int | float) and not isinstance(value, bool):
        return {"weight": value}
    return value


def _plugin(table: Any, where: str, name: str | None = None) -> Plugin:
    """Make a Plugin from its table. A reward's `name` is its key; an algorithm's is in the table."""
    if not isinstance(table, Mapping):
        form = "weight" if name else "name"
        raise UserError(f"{where} must be a {form} or a table, not {table!r}{table_hint(table)}")
    name = name or table.get("name")
    if not isinstance(name, str):
        raise UserError(f'{where}: the table needs a name, such as name = "grpo"')

    numbers = {"weight": table.get("weight", 1.0), "anneal": table.get("anneal", 0.0)}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{where}.{key} must be a number, not {value!r}")
        if not isfinite(value):
            raise UserError(f"{where}.{key} must be a finite number, not {value}")
    if numbers["anneal"] < 0:
        raise UserError(
            f"{where}.anneal must be a number of steps, or 0 for a constant weight, not {numbers['anneal']}"
        )

    plugin_fields = {key: value for key, value in table.items() if key not in ("name", *numbers)}
    return Plugin(name, float(numbers["weight"]), plugin_fields, float(numbers["anneal"]))


def _rewards(table: Any, where: str) -> tuple[Plugin, ...]:
    if not isinstance(table, Mapping) or not table:
        raise UserError(f"{where} needs at least one line such as: accuracy = 1.0")
    return tuple(_plugin(_long_form("reward", value), f"{where}.{name}", name) for name, value in table.items())


# Tables to dataclasses


def _dataclass(cls: type, table: Any, where: str, path: str) -> Any:
    """Make a section from its table. `path` is the dotted key of the section, "" for the whole config."""
    if not isinstance(table, Mapping):
        raise UserError(f"{where}: {path or 'the config'} must be a table, not {table!r}")
    hints = _type_hints(cls)
    known = {item.name for item in fields(cls)}
    for key in table:
        if key not in known:
            section = f" in [{path}]" if path else ""
            hint = key_hint(first_leaf(key, table[key]), path, known)
            raise UserError(f"{where}: unknown key {key!r}{section}{hint}")
    values = {key: _value(hints[key], value, where, f"{path}.{key}".lstrip(".")) for key, value in table.items()}
    return cls(**values)


_type_hints = cache(get_type_hints)  # it evaluates the text of every annotation: half of the time of `load`


def _value(annotation: Any, value: Any, where: str, path: str) -> Any:
    """Convert one value to the annotation of its key; UserError if the type is wrong."""
    if is_dataclass(annotation) and isinstance(annotation, type):
        return value if isinstance(value, annotation) else _dataclass(annotation, value, where, path)
    if get_origin(annotation) is Mapping:
        return dict(value)
    if get_origin(annotation) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: {path} must be a list, not {value!r}{list_hint(path, value)}")
        item = get_args(annotation)[0]
        return tuple(entry if isinstance(entry, Plugin) else _value(item, entry, where, path) for entry in value)

    allowed = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if NoneType in allowed and value in ("", "none"):
        return None
    if type(value) not in allowed:
        names = " or ".join(t.__name__ for t in allowed if t is not NoneType)
        raise UserError(f"{where}: {path} must be {names}, not {value!r}")
    return value
