"""Completion of the command line in bash, zsh and fish, by argcomplete: commands, options, names and config keys.

`rlvid completion SHELL` prints the lines that switch it on. The shell then calls `rlvid` itself for each completion.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rlvid.api.listing import LISTS
from rlvid.config import Config, config_keys
from rlvid.registry import available, module_file

SHELLS = ("bash", "zsh", "fish")
REQUESTED = "_ARGCOMPLETE"  # the environment variable with which a shell asks for completions
SWITCH_ON = {
    "bash": 'eval "$(rlvid completion bash)"        # in ~/.bashrc',
    "zsh": 'autoload -U compinit && compinit && eval "$(rlvid completion zsh)"        # in ~/.zshrc',
    "fish": "rlvid completion fish | source        # in ~/.config/fish/config.fish",
}

Completer = Callable[..., Iterable[str]]


def script(shell: str) -> str:
    """Return the lines that switch completion on in a shell: "bash", "zsh" or "fish"."""
    import argcomplete

    return f"# {SWITCH_ON[shell]}\n{argcomplete.shellcode(['rlvid'], shell=shell)}"


def answer_shell(parser: argparse.ArgumentParser) -> None:
    """Write completions and end the process, if a shell asks for them."""
    if REQUESTED in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def completed_by(action: argparse.Action, completer: Completer) -> None:
    """Let a function complete an argument. argcomplete completes paths where there is none."""
    action.completer = completer  # type: ignore[attr-defined]


def presets(prefix: str, **_: Any) -> list[str]:
    """Complete names of presets and TOML files."""
    shipped = [path.stem for path in (module_file("experiments").parent / "presets").glob("*.toml")]
    return [*shipped, *_paths(prefix, ".toml")]


def overrides(prefix: str, **_: Any) -> list[str]:
    """Complete config keys up to "=", and names of plug-ins after it."""
    key, assigned, _rest = prefix.partition("=")
    if assigned:
        values = {"algorithm": lambda: available("algorithms"), "noise.kind": lambda: _names("noise")}
        return [f"{key}={value}" for value in values.get(key, list)()]
    keys = [key.name for key in config_keys(Config()) if key.name != "rewards"]
    return [f"{name}=" for name in [*keys, *(f"rewards.{reward}" for reward in available("rewards"))]]


def rewards(prefix: str, **_: Any) -> list[str]:
    """Complete names of rewards and Python files."""
    return [*available("rewards"), *_paths(prefix, ".py")]


def listed_names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Complete names of the list that the command line names."""
    if parsed_args.what == "config":
        keys = [key.name for key in config_keys(Config())]
        return sorted({*keys, *(key.partition(".")[0] for key in keys)})
    return _names(parsed_args.what)


def parts(prefix: str, **_: Any) -> list[str]:
    """Complete names of the parts of `rlvid bench gpu`."""
    return _names("parts")


def scripts(prefix: str, **_: Any) -> list[str]:
    """Complete the path of an experiment script, a Python file."""
    return _paths(prefix, ".py")


def _names(what: str) -> list[str]:
    return [row.name for row in LISTS[what]()] if what in LISTS else []


def _paths(prefix: str, suffix: str) -> list[str]:
    """Return the files with a suffix and the folders whose path begins with `prefix`."""
    folder, _, name = prefix.rpartition("/")
    parent = Path(folder or ("/" if prefix.startswith("/") else "."))
    if not parent.is_dir():
        return []
    start = prefix[: len(prefix) - len(name)]
    entries = [path for path in sorted(parent.iterdir()) if path.name.startswith(name)]
    return [
        f"{start}{path.name}/" if path.is_dir() else f"{start}{path.name}" for path in entries if _fits(path, suffix)
    ]


def _fits(path: Path, suffix: str) -> bool:
    return path.suffix == suffix or (path.is_dir() and not path.name.startswith("."))
