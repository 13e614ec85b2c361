"""Arguments that may be one value or several."""

from __future__ import annotations

from collections.abc import Sequence


def as_list(values: str | Sequence[str]) -> list[str]:
    """Return a list of values; one string is one value.

    >>> as_list("train.max_steps=1"), as_list(("L1", "L2"))
    (['train.max_steps=1'], ['L1', 'L2'])
    """
    return [values] if isinstance(values, str) else list(values)
