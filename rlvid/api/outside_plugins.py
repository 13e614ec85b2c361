"""Describe a reward or an algorithm in a file of the user's own, as `rlvid list` does the shipped ones."""

from __future__ import annotations

from pathlib import Path

from rlvid.errors import UserError
from rlvid.registry import plugin_file, suggest
from rlvid.utils.plugin_source import PluginSource, SourceFile


def is_outside(name: str) -> bool:
    """Return whether a name is that of a file, `./file.py` or `./file.py:name`, or of `module:name`."""
    return plugin_file(name) is not None


def read_outside(name: str) -> PluginSource:
    """Parse the plug-in that `./file.py:name` names; without a name it has that of the file. Nothing of it is run.

    Raises:
        UserError: there is no such file, it is no Python, or it has no such definition.
    """
    path = plugin_file(name)
    if path is None or not path.is_file():
        raise UserError(f"{str(path)!r}: no such file. Paths are relative to {Path.cwd()}")
    wanted = name.partition(":")[2] or path.stem
    try:
        source = SourceFile(path)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as Python: {error}") from error
    names = {node.name.replace("_", "").lower(): node.name for node in source.definitions()}
    if wanted.replace("_", "").lower() not in names:
        raise UserError(f"{path}: defines no {wanted!r}.{suggest(wanted, names.values())}")
    return source.plugin(wanted)
