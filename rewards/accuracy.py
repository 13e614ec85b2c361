"""1 when the final answer is the right option: SEED-Bench-R1's only reward (arXiv:2503.24376).

The released code compares the first character of the first `<answer>`, so "Add oil" counts as A and "(B)" as wrong,
after `math_verify` has read the whole reply. Ours credits what `rlvid.answer.parse` reads, and nothing else.
"""

from rlvid.reward import each
from rlvid.types import Completion, Prompt


@each
def accuracy(completion: Completion, prompt: Prompt) -> float | None:
    """Return 1 or 0; None if the prompt has no gold answer or no options (see `open_ended`)."""
    return None if prompt.answer is None or not prompt.options else float(completion.answer == prompt.answer)
