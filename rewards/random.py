"""A random reward, independent of the reply: a control for every other reward.

Spurious Rewards (2025, arXiv:2506.10947) uses it with p = 0.5: it raised Qwen2.5-Math-7B on MATH-500 by 21.4 points;
Llama 3 and OLMo 2 often gained nothing.
"""

import hashlib

from rlvid.reward import each
from rlvid.types import Completion, Prompt


@each
def random(completion: Completion, prompt: Prompt, *, p: float = 0.5, seed: int = 0) -> float:
    """Return 1 with probability `p`, else 0, by a hash of seed, sample and text: equal texts get equal numbers."""
    digest = hashlib.blake2b(f"{seed}|{prompt.id}|{completion.text}".encode(), digest_size=8).digest()
    return float(int.from_bytes(digest) < p * 2**64)
