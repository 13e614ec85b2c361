"""The items and the phases of a memory estimate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

FP32, BF16 = 4, 2  # bytes per number


class Phase(StrEnum):
    """The phases of a training step, in their order."""

    SAMPLING = "sampling"
    REFERENCE = "scoring with the reference"
    FORWARD = "the end of the forward pass"
    BACKWARD = "the backward pass"
    UPDATE = "the optimizer step"


ALWAYS = tuple(Phase)
LEARNING = (Phase.FORWARD, Phase.BACKWARD)


@dataclass(frozen=True)
class MemoryItem:
    """Something in the memory of each device: its bytes, the formula behind them, and the phases in which it exists."""

    name: str
    bytes: float
    formula: str
    phases: tuple[Phase, ...] = ALWAYS


@dataclass(frozen=True)
class MemoryEstimate:
    """What each device of a run holds."""

    items: tuple[MemoryItem, ...]

    def bytes_in(self, phase: Phase) -> float:
        """Return the bytes of all items of a phase."""
        return sum(item.bytes for item in self.items if phase in item.phases)

    def peak(self) -> tuple[Phase, float]:
        """Return the phase that needs the most memory, and its bytes."""
        phase = max(Phase, key=self.bytes_in)
        return phase, self.bytes_in(phase)
