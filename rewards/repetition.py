"""A penalty for repeated n-grams of tokens (Demystifying Long Chain-of-Thought, arXiv:2502.03373; TRL's, n = 3).

r = -penalty (1 - distinct n-grams / n-grams), from -penalty to 0: the same numbers as TRL's
`get_repetition_penalty_reward`.

Known hack: padding that never repeats itself is free, and so is a reply shorter than `n` tokens.
"""

from rlvid.errors import UserError
from rlvid.reward import each
from rlvid.types import Completion, Prompt


@each
def repetition(completion: Completion, prompt: Prompt, *, n: int = 3, penalty: float = 1.0) -> float:
    """Return 0 if no n-gram occurs twice. Perception-R1 (arXiv:2506.07218) uses n = 20 and penalty = 2."""
    if n < 1:
        raise UserError(f"reward repetition: n, the length of the n-grams, must be 1 or more, not {n}")
    tokens = completion.tokens
    ngrams = [tokens[i : i + n] for i in range(len(tokens) - n + 1)]
    return -penalty * (1 - len(set(ngrams)) / len(ngrams)) if ngrams else 0.0
