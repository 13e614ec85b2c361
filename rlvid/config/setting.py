"""One config key: its default, its meaning and its limits, declared in one line of a section's dataclass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from math import isfinite
from typing import Any, TypeVar

BARE_KEY = re.compile(r"[\w-]+", re.ASCII)  # a part of a TOML key that needs no quotes

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """The values that a key accepts. None, or no choices, means no limit.

    For a list, `choices` limits each item. No key accepts an infinite number or NaN; each accepts None, where its type
    does.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] = ()

    def allow(self, value: Any) -> bool:
        """Return whether `value` is within the limits."""
        if self.choices:
            items = value if isinstance(value, tuple) else (value,)
            return set(items) <= set(self.choices)
        if value is None:
            return True
        if isinstance(value, float) and not isfinite(value):
            return False
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        """Return the limits in words, such as "0 or more", or "" if there are none.

        >>> str(Limits(above=0, at_most=1)), str(Limits(at_least=0, at_most=1))
        ('in (0, 1]', 'in [0, 1]')
        >>> str(Limits(choices=("linear", "cosine")))
        '"linear" or "cosine"'
        """
        if self.choices:
            *first, last = (f'"{choice}"' for choice in self.choices)
            return f"{', '.join(first)} or {last}"
        if self.at_most is not None:
            start = f"({self.above}" if self.at_least is None else f"[{self.at_least}"
            return f"in {start}, {self.at_most}]"
        if self.above is not None:
            return f"above {self.above}"
        return "" if self.at_least is None else f"{self.at_least} or more"


def setting(
    default: T,
    meaning: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    choices: tuple[str, ...] = (),
) -> T:
    """Return a dataclass field for one config key. `at_most` needs the other end of its interval, too."""
    limits = Limits(at_least, above, at_most, choices)
    return field(default=default, metadata={"meaning": meaning, "limits": limits})


@dataclass(frozen=True)
class ConfigKey:
    """One key of a config with its value."""

    name: str  # dotted, such as "train.max_steps"
    type: str  # the annotation, such as "int" or "int | None"
    value: Any
    meaning: str
    limits: Limits


def config_keys(section: Any, prefix: str = "") -> Iterator[ConfigKey]:
    """Yield every key of a config, or of one of its sections, in the order of declaration.

    Args:
        section: an instance of a dataclass whose fields are made by `setting`, or are such sections themselves.
        prefix: the dotted path of the section, with a dot at its end.
    """
    for item in fields(section):
        value = getattr(section, item.name)
        if "meaning" in item.metadata:
            meaning, limits = item.metadata["meaning"], item.metadata["limits"]
            yield ConfigKey(f"{prefix}{item.name}", str(item.type), value, meaning, limits)
        elif is_dataclass(value):
            yield from config_keys(value, f"{prefix}{item.name}.")


def flatten_config(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one table with dotted keys, as an override has them: {"train": {"seed": 1}}: train.seed.

    >>> flatten_config({"rewards": {"./mine.py:f": {"weight": 0.5}}})
    {'rewards."./mine.py:f".weight': 0.5}
    """
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        part = key if BARE_KEY.fullmatch(key) else f'"{key}"'
        if isinstance(value, Mapping):
            leaves |= flatten_config(value, f"{prefix}{part}.")
        else:
            leaves[f"{prefix}{part}"] = value
    return leaves
