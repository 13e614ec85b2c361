"""Refuse inherited fields that an algorithm does not read, so that no setting is silently without effect."""

from collections.abc import Collection
from dataclasses import MISSING, fields
from typing import Any


def refuse_unused(algorithm: Any, names: Collection[str], reason: str) -> None:
    """Raise ValueError if a field that has no effect is set to another value than its default.

    Args:
        algorithm: a dataclass.
        names: of its fields without effect, such as inherited ones.
        reason: why they have none, and what to set instead, for the message.
    """
    for field in fields(algorithm):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if field.name in names and getattr(algorithm, field.name) != default:
            raise ValueError(f"{field.name} has no effect: {reason}")
