"""A ramp from 0 down to -1 as a reply nears the length limit (DAPO's soft overlong punishment, arXiv:2503.14476)."""

from collections.abc import Sequence
from dataclasses import dataclass

from rlvid.reward import Column
from rlvid.types import Completion, Group


@dataclass(frozen=True)
class Overlong:
    """0 up to `max_length - cache` tokens, -1 from `max_length` tokens on, and linear values between them.

    Set `max_length` to the run's `train.max_completion_length`. The paper's values are 20,480 and 4,096 tokens.
    """

    max_length: int = 256
    cache: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.cache <= self.max_length:
            raise ValueError(f"cache must be from 1 to max_length, {self.max_length}, not {self.cache}")

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group."""
        return [[self.score(completion) for completion in group] for group in groups]

    def score(self, completion: Completion) -> float:
        """Return the value of a completion, by its number of tokens."""
        tokens_over = max(len(completion.tokens) - (self.max_length - self.cache), 0)
        return -min(tokens_over / self.cache, 1.0)
