"""Find a protocol by name, read one from a TOML file, and the record that a run keeps of its own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from rlvid.errors import UserError
from rlvid.protocols.base import DEFAULT, Protocol, check_protocol
from rlvid.protocols.published import PROTOCOLS
from rlvid.utils.text import suggest

RECORD = "protocol.toml"  # in a run's folder: the protocol of its evaluation, in full
SECTIONS = ("eval", "video")  # of settings
TEXTS = ("text", "source", "differences", "option", "extraction", "number", "mra", "denominator")


def load_protocol(name: str) -> Protocol:
    """Return a protocol by its name, or from a TOML file in the form that `rlvid list protocols NAME` prints.

    Raises:
        UserError: if there is none of this name, or if the file cannot be used.
    """
    if name.endswith(".toml"):
        return _read(Path(name), name)
    if name not in PROTOCOLS:
        raise UserError(
            f"eval.protocol: no protocol {name!r}.{suggest(name, PROTOCOLS)} `rlvid list protocols` has them; one of "
            "your own is a TOML file"
        )
    return PROTOCOLS[name]


def protocol_settings(name: str) -> dict[str, Any]:
    """Return the settings of a protocol as nested tables, as a config has them; an unset size is ""."""
    tables: dict[str, Any] = {}
    for key, value in load_protocol(name).settings.items():
        section, _, leaf = key.partition(".")
        tables.setdefault(section, {})[leaf] = "" if value is None else value
    return tables


def record(protocol: Protocol) -> str:
    """Return what a run keeps of its protocol: its TOML with its name."""
    return tomli_w.dumps({"name": protocol.name}) + protocol.to_toml()


def recorded_protocol(run: Path) -> Protocol:
    """Return the protocol of a run's evaluation; a run of before there were protocols has the default one."""
    file = run / RECORD
    return _read(file, None) if file.is_file() else DEFAULT


def _read(file: Path, name: str | None) -> Protocol:
    """Read a TOML file. With the name None, it is a run's record, which holds the name."""
    try:
        table = tomllib.loads(file.expanduser().read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as the TOML file of a protocol: {error}") from error
    recorded = table.pop("name", "")  # a run's record holds a name; the path of a file is the name of its protocol
    fields: dict[str, Any] = {"name": name or recorded}
    fields["settings"] = _settings({section: table.pop(section, {}) for section in SECTIONS}, file)
    prompt = table.pop("prompt", {})
    if not isinstance(prompt, Mapping):
        raise UserError(f'{file}: prompt must be a table, [prompt] with lines such as multiple_choice = "..."')
    values = [*table.items(), *prompt.items()]
    for key, value in values:
        if not isinstance(value, str):
            raise UserError(f"{file}: {key} must be a text, not {value!r}")
    for key in table:
        if key not in TEXTS:
            raise UserError(f"{file}: unknown key {key!r}.{suggest(key, (*TEXTS, *SECTIONS, 'prompt'))}")
    return check_protocol(Protocol(prompt=prompt, **fields, **table))


def _settings(sections: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Return config keys with values; the config checks them."""
    for section, keys in sections.items():
        if not isinstance(keys, Mapping) or "protocol" in keys:
            raise UserError(f"{file}: [{section}] must hold settings of that section, such as temperature = 0.0")
    return {
        f"{section}.{key}": None if value == "" else value
        for section, keys in sections.items()
        for key, value in keys.items()
    }
