"""The same number for every reply: a control without any signal, which a group baseline turns into zero credit."""

from rlvid.reward import each
from rlvid.types import Completion, Prompt


@each
def constant(completion: Completion, prompt: Prompt, *, value: float = 1.0) -> float:
    """Return `value` for every completion."""
    return value
