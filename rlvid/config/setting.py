"""One config key: its default, its meaning and its limits, declared in one line of a section's dataclass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BARE_KEY = re.compile(r"[\w-]+", re.ASCII)  # a part of a TOML key that needs no quotes

T = TypeVar("T")
S = TypeVar("S", bound="DataclassInstance")


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
    neutral: bool = False,
) -> T:
    """Return a dataclass field for one config key. `at_most` needs the other end of its interval, too.

    A key is `neutral` if no sample and no weights depend on it, so that runs that differ in it are the same run, see
    `Config.id`. A key that changes results by rounding, such as `max_tokens_per_forward`, is not neutral.
    """
    limits = Limits(at_least, above, at_most, choices)
    return field(default=default, metadata={"meaning": meaning, "limits": limits, "neutral": neutral})


@dataclass(frozen=True)
class ConfigKey:
    """One key of a config with its value."""

    name: str  # dotted, such as "train.max_steps"
    type: str  # the annotation, such as "int" or "int | None"
    value: Any
    meaning: str
    limits: Limits
    neutral: bool  # whether runs that differ in it are the same run


def config_keys(section: Any, prefix: str = "") -> Iterator[ConfigKey]:
    """Yield every key of a config, or of one of its sections, in the order of declaration.

    Args:
        section: an instance of a dataclass whose fields are made by `setting`, or are such sections themselves.
        prefix: the dotted path of the section, with a dot at its end.
    """
    for item in fields(section):
        value = getattr(section, item.name)
        if "meaning" in item.metadata:
            yield ConfigKey(f"{prefix}{item.name}", str(item.type), value, **item.metadata)
        elif is_dataclass(value):
            yield from config_keys(value, f"{prefix}{item.name}.")


def replace_neutral(section: S, saved: Mapping[str, Any] | None = None, prefix: str = "") -> S:
    """Return a config, or one of its sections, with other values of its neutral keys.

    Args:
        section: as for `config_keys`.
        saved: dotted key -> value; a neutral key that it lacks gets its default.
        prefix: the dotted path of the section, with a dot at its end.
    """
    changes = {}
    for item in fields(section):
        value = getattr(section, item.name)
        if item.metadata.get("neutral"):
            changes[item.name] = (saved or {}).get(f"{prefix}{item.name}", item.default)
        elif "meaning" not in item.metadata and is_dataclass(value) and not isinstance(value, type):
            changes[item.name] = replace_neutral(value, saved, f"{prefix}{item.name}.")
    return replace(section, **changes)


def quote_key(part: str) -> str:
    """Return one part of a dotted key as it must be typed: in quotes if it has dots or slashes.

    >>> quote_key("format"), quote_key("./mine.py")
    ('format', '"./mine.py"')
    """
    return part if BARE_KEY.fullmatch(part) else f'"{part}"'


def flatten_config(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one table with dotted keys, as an override has them: {"train": {"seed": 1}}: train.seed.

    >>> flatten_config({"rewards": {"./mine.py:f": {"weight": 0.5}}})
    {'rewards."./mine.py:f".weight': 0.5}
    """
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        part = quote_key(key)
        if isinstance(value, Mapping):
            leaves |= flatten_config(value, f"{prefix}{part}.")
        else:
            leaves[f"{prefix}{part}"] = value
    return leaves
