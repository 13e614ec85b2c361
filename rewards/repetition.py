"""A penalty for repeated n-grams of tokens (Demystifying Long Chain-of-Thought, arXiv:2502.03373; TRL's, n = 3).

r = -penalty (1 - distinct n-grams / n-grams), from -penalty to 0. Known hack: padding that never repeats itself is
free, and so is a reply shorter than `n` tokens. The same numbers as TRL's `get_repetition_penalty_reward`.
"""

from rlvid.reward import each
from rlvid.types import Completion, Prompt


@each
def repetition(completion: Completion, prompt: Prompt, *, n: int = 3, penalty: float = 1.0) -> float:
    """0 where no n-gram occurs twice. Perception-R1's (arXiv:2506.07218) are n = 20 and 2."""
    tokens = completion.tokens
    grams = [tokens[i : i + n] for i in range(len(tokens) - n + 1)]
    return -penalty * (1 - len(set(grams)) / len(grams)) if grams else 0.0
