"""Errors of an algorithm's methods as one line that names the algorithm and where it is defined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from rlvid.algorithm import Algorithm
from rlvid.errors import UserError
from rlvid.utils.fields import location
from rlvid.utils.mistakes import explain, first_line


@contextmanager
def algorithm_errors(algorithm: Algorithm, when: str) -> Iterator[None]:
    """Turn an error of an algorithm's methods, or of a check of their results, into a UserError of one line.

    Args:
        algorithm: its class and the place of its definition are in the message.
        when: for the message, such as "at step 3".

    Out-of-memory errors are not changed: `OOMBackoff` handles them.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        named = f"algorithm {type(algorithm).__name__} {when}"
        if isinstance(error, UserError) or not (line := explain(error)):
            line = f"{first_line(error)} ({location(algorithm)})"
        raise UserError(f"{named}: {line}") from error


def check_shape(name: str, value: Any, shape: Sequence[int]) -> None:
    """Raise UserError unless `value` is a tensor of this shape; `name` is for the message."""
    if not isinstance(value, Tensor):
        raise UserError(f"{name} must be a tensor of shape {tuple(shape)}, not {type(value).__name__}")
    if value.shape != tuple(shape):
        raise UserError(f"{name} must be a tensor of shape {tuple(shape)}, not {tuple(value.shape)}")


def name_and_location(algorithm: Algorithm) -> str:
    """Return the class of an algorithm and where it is defined: "GRPO at algorithms/grpo.py:14"."""
    return f"{type(algorithm).__name__} at {location(algorithm)}"
