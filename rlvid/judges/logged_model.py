"""A wrapper that times and logs the calls of a reward to a model, such as the judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class LoggedModel:
    """Call a model, count the time as that of its kind of evidence, and keep a log for `samples/`.

    Attributes:
        model: maps a sequence of inputs to as many outputs.
        timed: returns a context manager; the time within it is added to the kind of evidence.
        log: one `{"asked": input, "replied": output}` per input, in order.
    """

    model: Callable[[Sequence[Any]], Any]
    timed: Callable[[], AbstractContextManager[None]]
    log: list[dict[str, Any]] = field(default_factory=list)

    def call_unlogged(self, inputs: Sequence[Any]) -> Any:
        """Return the model's outputs, in order; the call is timed but not logged."""
        with self.timed():
            return self.model(inputs)

    def __call__(self, inputs: Sequence[Any]) -> Any:
        """Return the model's outputs, in order; the call is timed and logged."""
        outputs = self.call_unlogged(inputs)
        self.log += [
            {"asked": model_input, "replied": output} for model_input, output in zip(inputs, outputs, strict=True)
        ]
        return outputs
