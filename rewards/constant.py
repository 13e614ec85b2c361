"""The same for every reply: the control arm without any signal, which a group's baseline turns into no credit."""

from rlvid.reward import each
from rlvid.types import Completion, Prompt


@each
def constant(completion: Completion, prompt: Prompt, *, value: float = 1.0) -> float:
    """`value`."""
    return value
