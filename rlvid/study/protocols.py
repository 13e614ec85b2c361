"""The protocol of runs that are compared: it must be one, because another prompt or parser alone moves a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlvid.config import flatten_config
from rlvid.errors import UserError
from rlvid.protocols import DEFAULT, Protocol, recorded_protocol
from rlvid.utils.files import read_toml

FIX = "evaluate them again under one: rlvid eval RUN eval.protocol=NAME"


def common_protocol(runs: Mapping[str, Path]) -> Protocol:
    """Return the protocol of runs, given as name -> folder.

    Raises:
        UserError: if there are several, by name or by what their TOML files said.
    """
    protocols = {name: recorded_protocol(folder) for name, folder in runs.items()}
    if not protocols:
        return DEFAULT
    (first, protocol), *others = protocols.items()
    for name, other in others:
        if other != protocol:
            content = " with another content" if other.name == protocol.name else ""
            raise UserError(
                f"{first} was evaluated under the protocol {protocol.name!r} and {name} under {other.name!r}{content}: "
                f"their figures cannot be compared; {FIX}"
            )
    return protocol


def protocol_in_words(runs: Mapping[str, Path]) -> str:
    """Return the name of the common protocol of runs, with the settings in which their configs differ from it.

    Raises UserError as `common_protocol` does.
    """
    protocol = common_protocol(runs)
    changed: dict[str, None] = {}
    for folder in runs.values():
        config = folder / "config.toml"
        values = flatten_config(read_toml(config)) if config.is_file() else {}
        for key, value in protocol.settings.items():
            if key in values and values[key] != _in_toml(value):
                changed[f"{key}={values[key]}"] = None
    return f"{protocol.name} with {', '.join(changed)}" if changed else protocol.name


def _in_toml(value: Any) -> Any:
    return "" if value is None else value
