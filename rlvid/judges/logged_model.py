"""A model as a reward calls it: each call is timed and logged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class LoggedModel:
    """Wraps a model so that its calls count as time of its kind of evidence and are kept for `samples/`.

    `log` holds one `{"asked": input, "replied": output}` per input, in order.
    """

    model: Callable[[Sequence[Any]], Any]
    timed: Callable[[], AbstractContextManager[None]]
    log: list[dict[str, Any]] = field(default_factory=list)

    def call_unlogged(self, inputs: Sequence[Any]) -> Any:
        """The model's outputs, in order; timed but not logged."""
        with self.timed():
            return self.model(inputs)

    def __call__(self, inputs: Sequence[Any]) -> Any:
        """The model's outputs, in order; timed and logged."""
        outputs = self.call_unlogged(inputs)
        self.log += [{"asked": x, "replied": y} for x, y in zip(inputs, outputs, strict=True)]
        return outputs
