"""A ramp from 0 down to -1 as a reply nears the length limit (DAPO's soft overlong punishment, arXiv:2503.14476)."""

from rlvid.reward import each
from rlvid.types import Completion, Prompt


@each
def overlong(completion: Completion, prompt: Prompt, *, max_length: int = 256, cache: int = 64) -> float:
    """Return 0 up to `max_length - cache` tokens, -1 from `max_length` tokens on, and linear values between them.

    Set `max_length` to the run's `train.max_completion_length`. The paper's values are 20,480 and 4,096 tokens.
    """
    tokens_over = max(len(completion.tokens) - (max_length - cache), 0)
    return -min(tokens_over / cache, 1.0)
