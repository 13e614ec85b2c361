"""Errors of an algorithm's methods as one line that names the algorithm and where it is defined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from rlvid.algorithm import Algorithm, Losses
from rlvid.errors import UserError
from rlvid.policy.oom import find_out_of_memory
from rlvid.types import Batch
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
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if find_out_of_memory(error):
            raise
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


def checked_loss(algorithm: Algorithm, logps: Tensor, batch: Batch) -> Losses:
    """Return the algorithm's loss and the quantities that it logs, for (B, T) log-probs.

    Raises:
        UserError: if it raises, or returns something else than tensors of shape (B, T).
    """
    with algorithm_errors(algorithm, "in its loss"):
        losses, quantities = algorithm.loss(logps, batch)
        check_shape("loss", losses, batch.mask.shape)
        for name, quantity in quantities.items():
            check_shape(f"quantity {name!r} to log", quantity, batch.mask.shape)
    return losses, quantities


def check_memory(value: Any, where: str = "step.memory") -> None:
    """Raise UserError for what a checkpoint's JSON would lose or change, so that a resumed run would be another one."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise UserError(f"{where} has the key {key!r}, which a checkpoint keeps as a text: use str({key!r})")
            check_memory(item, f"{where}[{key!r}]")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            check_memory(item, f"{where}[{i}]")
    elif value is not None and not isinstance(value, str | int | float):
        raise UserError(
            f"{where} is a {type(value).__name__}, which a checkpoint cannot keep: keep numbers, texts, lists and "
            "dictionaries"
        )
