"""What was probably meant by an option that a command does not have, such as `rlvid train nano --steps 3`."""

from __future__ import annotations

from difflib import get_close_matches

from rlvid.api.listing import list_plugins
from rlvid.config import Config, config_keys
from rlvid.utils.renamed import RENAMED, renamed_hint

GRID_HELP = ". Options of a grid stand after its script: rlvid grid SCRIPT --help"


def config_hint(option: str, value: str) -> str:
    """Return the assignment that an option stands for: `--steps 3` is `train.max_steps=3`; "" if there is none.

    >>> config_hint("--learning-rate", "1e-5")
    '. Config keys are assignments without dashes: train.learning_rate=1e-5'
    """
    name = option.lstrip("-").replace("-", "_")
    key = _exact_key(name) or _algorithm_field(name) or _nearest_key(name)
    return f". Config keys are assignments without dashes: {key}={value or 'VALUE'}" if key else ""


def grid_hint(option: str, value: str) -> str:
    """Say where the options of a grid stand: they are parsed by the grid of the script."""
    return GRID_HELP


def bench_hint(option: str, value: str) -> str:
    """Return the new name of an old option of `rlvid bench`.

    >>> bench_hint("--seen", "image")
    '; it is called --media'
    """
    return renamed_hint("option", option)


def _exact_key(name: str) -> str:
    """Return the key with this name, new or old, in any section; of several, one in [train] or the shortest."""
    found = [key for key in _keys() if key == name or key.endswith(f".{name}")]
    for old, new in RENAMED["config key"].items():
        if old == name or old.endswith(f".{name}"):
            found.append(f"{old.rpartition('.')[0]}.{new}".lstrip("."))
    return min(found, key=lambda key: (not key.startswith("train."), len(key)), default="")


def _algorithm_field(name: str) -> str:
    name = RENAMED["field"].get(name, name)
    return f"algorithm.{name}" if any(name in row.fields for row in list_plugins("algorithms")) else ""


def _nearest_key(name: str) -> str:
    nearest = get_close_matches(name, {key.rpartition(".")[2] for key in _keys()}, n=1, cutoff=0.75)
    return _exact_key(nearest[0]) if nearest else ""


def _keys() -> list[str]:
    return [key.name for key in config_keys(Config())]
