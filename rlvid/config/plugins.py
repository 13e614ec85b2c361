"""A plug-in in a config: its name, its fields with their defaults, and the file that it is read from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rlvid import registry
from rlvid.errors import UserError

COPIES = "plugins"  # a run's folder of copies of the plug-in files from outside, beside its config.toml


@dataclass(frozen=True)
class Plugin:
    """A reward or an algorithm: its name, its fields, and for a reward its weight in the mix.

    The weight of a reward at step s is weight * exp(-s / anneal), so that a helper reward fades out. With `anneal` 0
    the weight is constant.
    """

    name: str
    weight: float = 1.0
    fields: Mapping[str, Any] = field(default_factory=dict)  # those that are set; see `all_fields`
    anneal: float = 0.0
    copy: str = ""  # the file to read instead of the one that the name gives: a copy in the folder of a run

    def build(self, kind: str) -> Any:
        """Build the plug-in; `kind` is "rewards" or "algorithms". Raises UserError, see `registry.build`."""
        return registry.build_plugin(kind, self.name, self.fields, self.copy)

    def all_fields(self, kind: str) -> dict[str, Any]:
        """Return every field that TOML can hold, set or default; None is ""."""
        return registry.complete_fields(kind, self.name, self.fields, self.copy)

    @property
    def file(self) -> Path | None:
        """The Python file of a plug-in from outside of rlvid, as its name gives it; None for one of rlvid's own."""
        return registry.plugin_file(self.name)

    def digest(self) -> str:
        """Return twelve hex digits that identify the text of the plug-in's file; "" for one of rlvid's own.

        Raises UserError if there is no such file.
        """
        return file_digest(Path(self.copy) if self.copy else self.file) if self.file else ""

    def copy_name(self) -> str:
        """Return the name of the file's copy in a run's folder, such as "hedge-0123456789ab.py"."""
        return f"{self.file.stem}-{self.digest()}.py" if self.file else ""


def file_digest(path: Path | None) -> str:
    """Return twelve hex digits of a file's SHA-256. Raises UserError if there is no such file."""
    if path is None or not path.is_file():
        raise UserError(f"{str(path)!r}: no such file. Paths are relative to {Path.cwd()}")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def plugin_digests(plugins: Iterable[Plugin]) -> dict[str, str]:
    """Return file -> digest of the plug-ins that are files from outside, as config.toml holds it in [plugins]."""
    return {str(plugin.file): plugin.digest() for plugin in plugins if plugin.file}


def with_saved_copy(plugin: Plugin, digests: Mapping[str, str], folder: Path) -> Plugin:
    """Return a plug-in of a saved config, read from the copy that lies beside the config if its file has changed.

    Args:
        plugin: the plug-in.
        digests: [plugins] of the saved config.
        folder: of the saved config; copies are in its folder plugins/.

    Raises:
        UserError: if the file has changed or is missing and there is no copy.
    """
    saved = digests.get(str(plugin.file))
    if saved is None or plugin.file is None or (plugin.file.is_file() and file_digest(plugin.file) == saved):
        return plugin
    copy = folder / COPIES / f"{plugin.file.stem}-{saved}.py"
    if copy.is_file() and file_digest(copy) == saved:
        return replace(plugin, copy=str(copy))
    state = "has changed since" if plugin.file.is_file() else "is missing"
    raise UserError(
        f"{folder}: the config was saved with {plugin.file} as {saved}, which {state}, and {copy} is no copy of it: "
        "remove its line under [plugins] to use the file as it is now"
    )
