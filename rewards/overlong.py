"""A ramp from 0 down to -1 as a reply nears the length limit (DAPO's soft overlong punishment, arXiv:2503.14476)."""

from rlvid.reward import each
from rlvid.types import Completion, Prompt


@each
def overlong(completion: Completion, prompt: Prompt, *, max_length: int = 256, cache: int = 64) -> float:
    """0 up to `max_length - cache` tokens, -1 from `max_length` on, a straight line between them.

    `max_length` is the run's `train.max_completion_length`; the paper's are 20,480 and 4,096 tokens.
    """
    return -min(max(len(completion.tokens) - (max_length - cache), 0) / cache, 1.0)
