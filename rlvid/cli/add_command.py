"""Add a command to the parser, and the arguments that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from rlvid.cli import completion
from rlvid.cli.hints import config_hint
from rlvid.utils.arguments import ArgumentParser


def add_command(
    group: Any, name: str, run: Callable[[argparse.Namespace], int | None] | None, description: str
) -> ArgumentParser:
    """Add a command that calls `run` with its parsed arguments; return its parser."""
    one: ArgumentParser = group.add_parser(name, help=description, description=description)
    one.set_defaults(command=run)
    return one


def add_config(one: ArgumentParser) -> None:
    """Add a preset and overrides of its keys."""
    preset = one.add_argument("preset", help="a TOML file, or a name from `rlvid list presets`")
    completion.completed_by(preset, completion.presets)
    add_overrides(one, "train.max_steps=10")


def add_overrides(one: ArgumentParser, example: str) -> None:
    """Add overrides of a config's keys, with an example for the help text."""
    one.option_hint = config_hint
    overrides = one.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help=f"TOML assignments such as {example}"
    )
    completion.completed_by(overrides, completion.overrides)
